/**
 * @file CUDA graphs (CUDA C++ Programming Guide, "CUDA Graphs"; PyTorch `torch/cuda/graphs.py`). A step launches
 * thousands of kernels, and with small batches a GPU is done with each before the next one is launched. A graph is
 * recorded once and launches all of them together.
 */
import { ConfigError } from '../base/errors.js';
import { native } from './native.js';
import { untidied } from './scope.js';
import type { Device, Tensor } from './tensor.js';

/** Runs what was recorded again, on the same memory. */
type Replay = () => void;

/** Records the kernels that `work` launches on a GPU. They do not run. */
export type Recorder = (work: () => void, device: Device) => Replay;

/** @throws ConfigError where the addon cannot record graphs */
export function assertGraphs(): void {
  if (native().cuda === null)
    throw new ConfigError(
      'CUDA graphs need an addon that was built with CUDA and its headers (cuda_runtime.h and crt/host_config.h, of the CUDA toolkit or of the pip packages nvidia-cuda-runtime and nvidia-cuda-crt). Install them, set CUDA_HOME where they are elsewhere than in /usr/local/cuda, and run ip-adapter build --force',
    );
}

const finalizers = new FinalizationRegistry((graph: number) => native().cuda?.releaseGraph(graph));

/** Records into a CUDA graph. */
export const recordCuda: Recorder = (work, device) => {
  assertGraphs();
  const cuda = native().cuda as NonNullable<ReturnType<typeof native>['cuda']>;
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

type TensorFunction<Inputs extends Tensor[], Outputs extends Tensor[]> = (...inputs: Inputs) => Outputs;

interface Recorded<Outputs> {
  inputs: Tensor[];
  /** Gives what it leaves where the recording left it. */
  run(): Outputs;
}

/**
 * The same function, recorded. It is for functions that launch the same kernels for all inputs of the same shapes, whatever
 * their values: no number in it may depend on what is no input, nothing in it may read a value, and what it changes in
 * place has to stay where it is. It runs as it is where the shapes are new, which has cuDNN choose its algorithms, is
 * recorded the second time, and only replayed from then on.
 */
export function graphed<Inputs extends Tensor[], Outputs extends Tensor[]>(
  fn: TensorFunction<Inputs, Outputs>,
  record: Recorder = recordCuda,
): TensorFunction<Inputs, Outputs> {
  /** By shapes; null where they have come once. */
  const known = new Map<string, Recorded<Outputs> | null>();

  const recordFor = (examples: Inputs): Recorded<Outputs> =>
    untidied(() => {
      const inputs = examples.map((example) => example.clone()) as Inputs;
      let outputs: Outputs;
      const replay = record(() => {
        outputs = fn(...inputs);
      }, examples[0]?.device as Device);
      return {
        inputs,
        run: () => {
          replay();
          return outputs;
        },
      };
    });

  return (...inputs) => {
    const key = inputs.map(({ dtype, shape }) => `${dtype}[${shape}]`).join();
    const before = known.get(key);
    if (before === undefined) {
      known.set(key, null);
      return fn(...inputs);
    }
    const recording = before ?? recordFor(inputs);
    known.set(key, recording);
    recording.inputs.forEach((input, i) => {
      input.copy_(inputs[i] as Tensor);
    });
    // The next run writes over them.
    return recording.run().map((output) => output.clone()) as Outputs;
  };
}
