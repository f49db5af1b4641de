/**
 * @file CUDA graphs (CUDA C++ Programming Guide, "CUDA Graphs"; PyTorch `torch/cuda/graphs.py`). A step launches thousands
 * of kernels, and with small batches the GPU finishes each one before the next is launched. A graph is recorded once and
 * launches all of them together.
 */
import { ConfigError } from '../base/errors.js';
import { native } from './native.js';
import { untidied } from './scope.js';
import { type Device, Tensor } from './tensor.js';
import { mapTensors, tensorsOf } from './tensor-tree.js';

/** Runs the recorded kernels again, on the same memory. */
type Replay = () => void;

/** Records the kernels that `work` launches, without running them. */
export type Recorder = (work: () => void, device: Device) => Replay;

/** @throws ConfigError where the addon cannot record graphs */
export function assertGraphs(): void {
  if (native.cuda === null)
    throw new ConfigError(
      'CUDA graphs need an addon that was built with CUDA and its headers (cuda_runtime.h and crt/host_config.h, from the CUDA toolkit or the pip packages nvidia-cuda-runtime and nvidia-cuda-crt). Install them, set CUDA_HOME if they are not in /usr/local/cuda, and run node tools/build-native.mjs --force',
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
  /** Replays the recording and returns its outputs, which the next run overwrites. */
  run(): Outputs;
}

/**
 * Returns a function that records `fn`, a function of records (tensor-tree.ts), and replays the recording. `fn` must
 * launch the same kernels for all inputs of the same shapes: it must not read a tensor's values, and tensors that it
 * changes in place must keep their memory. For each set of input shapes the first call runs `fn` directly, so that cuDNN
 * chooses its algorithms; the second call records it; later calls replay the recording. Numbers and strings of the inputs
 * are constants of a recording.
 */
export function graphed<Inputs, Outputs>(
  fn: (inputs: Inputs) => Outputs,
  record: Recorder = recordCuda,
): (inputs: Inputs) => Outputs {
  /** By input shapes and constants; null after the first call with them. */
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
    const existing = recordings.get(key);
    if (existing === undefined) {
      recordings.set(key, null);
      return fn(inputs);
    }
    const recording = existing ?? recordFor(inputs);
    recordings.set(key, recording);
    for (const [i, input] of tensorsOf(recording.inputs).entries()) input.copy_(tensors[i] as Tensor);
    // The next run overwrites the outputs.
    return mapTensors(recording.run(), (output) => output.clone());
  };
}

/** What a recording depends on: dtypes, shapes and constants. */
function keyOf(inputs: unknown): string {
  return JSON.stringify(inputs, (_, value) =>
    value instanceof Tensor ? `${value.dtype}[${value.shape}]` : value,
  );
}
