// Trains an IP-Adapter, and resumes where an earlier run stopped: npx tsx examples/train.ts <model> <image encoder> <dataset> <output folder>
import { train, UserError } from 'ip-adapter';

const [model = '', imageEncoder = '', dataset = '', outputDir = ''] = process.argv.slice(2);
const abort = new AbortController();
// Ctrl-C ends training after the step under way, with a checkpoint.
process.once('SIGINT', () => abort.abort());

try {
  const { step, checkpoint } = await train(
    { model, imageEncoder, dataset, outputDir, resume: 'auto', resolution: 64, batchSize: 4, maxSteps: 4 },
    {
      signal: abort.signal,
      onEvent: (event) => {
        if (event.type === 'message') console.error(event.text);
        if (event.type === 'step') console.error(`step ${event.step}: loss ${event.loss.toFixed(4)}`);
      },
    },
  );
  console.log(`${step} steps: ${checkpoint}`);
} catch (error) {
  // Wrong options, files or data; any other error is a bug.
  if (!(error instanceof UserError)) throw error;
  console.error(error.message);
  process.exitCode = 2;
}
