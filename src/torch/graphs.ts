/**
 * @file CUDA graphs (CUDA C++ Programming Guide, "CUDA Graphs"; PyTorch `torch/cuda/graphs.py`). A step launches
 * thousands of kernels, and with small batches a GPU is done with each before the next one is launched. A graph is
 * recorded once and launches all of them together.
 */
import { ConfigError } from '../base/errors.js';
import { native } from './native.js';
import { untidied } from './scope.js';
import { type Device, Tensor } from './tensor.js';
import { mapTensors, tensorsOf } from './tensor-tree.js';

/** Runs what was recorded again, on the same memory. */
type Replay = () => void;

/** Records the kernels that `work` launches on a GPU. They do not run. */
export type Recorder = (work: () => void, device: Device) => Replay;

/** @throws ConfigError where the addon cannot record graphs */
export function assertGraphs(): void {
  if (native.cuda === null)
    throw new ConfigError(
      'CUDA graphs need an addon that was built with CUDA and its headers (cuda_runtime.h and crt/host_config.h, of the CUDA toolkit or of the pip packages nvidia-cuda-runtime and nvidia-cuda-crt). Install them, set CUDA_HOME where they are elsewhere than in /usr/local/cuda, and run node tools/build-native.mjs --force',
    );
}

const finalizers = new FinalizationRegistry((graph: number) => native.cuda?.releaseGraph(graph));

/** Records into a CUDA graph. */
export const recordCuda: Recorder = (work, device) => {
  assertGraphs();
  const cuda = native.cuda as NonNullable<typeof native.cuda>;
  cuda.beginCapture(device);
  try {
    work();
  } catch (error) {
    cuda.abandonCapture();
    throw error;
  }
  const graph = cuda.endCapture();
  const replay = () => cuda.replay(graph);
  finalizers.register(replay, graph);
  return replay;
};

interface Recorded<Inputs, Outputs> {
  inputs: Inputs;
  /** Gives what it leaves where the recording left it. */
  run(): Outputs;
}

/**
 * Returns the same function of records (see tensor-tree.ts), recorded. It is for functions that launch the same kernels
 * for all inputs of the same shapes, whatever their values: nothing in it may read a value, and what it changes in place
 * has to stay where it is. It runs as it is where the shapes are new, which has cuDNN choose its algorithms, is recorded
 * the second time, and only replayed from then on. Numbers and strings of the record are constants of a recording.
 */
export function graphed<Inputs, Outputs>(
  fn: (inputs: Inputs) => Outputs,
  record: Recorder = recordCuda,
): (inputs: Inputs) => Outputs {
  /** By shapes and constants; null where they have come once. */
  const recordings = new Map<string, Recorded<Inputs, Outputs> | null>();

  const recordFor = (examples: Inputs): Recorded<Inputs, Outputs> =>
    untidied(() => {
      const inputs = mapTensors(examples, (example) => example.clone());
      let outputs: Outputs;
      const replay = record(() => {
        outputs = fn(inputs);
      }, tensorsOf(examples)[0]?.device as Device);
      return {
        inputs,
        run: () => {
          replay();
          return outputs;
        },
      };
    });

  return (inputs) => {
    const tensors = tensorsOf(inputs);
    const key = keyOf(inputs);
    const known = recordings.get(key);
    if (known === undefined) {
      recordings.set(key, null);
      return fn(inputs);
    }
    const recording = known ?? recordFor(inputs);
    recordings.set(key, recording);
    for (const [i, input] of tensorsOf(recording.inputs).entries()) input.copy_(tensors[i] as Tensor);
    // The next run writes over them.
    return mapTensors(recording.run(), (output) => output.clone());
  };
}

/** What a recording depends on: dtypes, shapes and constants. */
function keyOf(inputs: unknown): string {
  return JSON.stringify(inputs, (_, value) =>
    value instanceof Tensor ? `${value.dtype}[${value.shape}]` : value,
  );
}
