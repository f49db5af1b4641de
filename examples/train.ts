// Trains an adapter; Ctrl-C saves, and the same command resumes: npx tsx examples/train.ts <model> <image encoder> <dataset> <output folder> [resolution] [steps]
import { train, UserError } from 'ip-adapter';

const [model = '', imageEncoder = '', dataset = '', outputDir = '', resolution = '512', steps = '2000'] =
  process.argv.slice(2);

const abort = new AbortController();
process.once('SIGINT', () => abort.abort());
try {
  const { step, checkpoint } = await train(
    {
      model,
      imageEncoder,
      dataset,
      outputDir,
      resolution: Number(resolution),
      maxSteps: Number(steps),
      cache: ['latents', 'text', 'image'],
      resume: 'auto',
    },
    {
      signal: abort.signal,
      onEvent: (event) => {
        if (event.type === 'step') console.log(`step ${event.step}/${event.total_steps}: ${event.loss}`);
        if (event.type === 'message') console.error(event.text);
      },
    },
  );
  console.log(`${step} steps: ${checkpoint}`);
} catch (error) {
  if (!(error instanceof UserError)) throw error;
  console.error(error.message);
}
