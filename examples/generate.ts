// Draws a picture that follows another: npx tsx examples/generate.ts <model> <image encoder> <adapter> <picture> <out.png>
import { IPAdapterPipeline } from 'ip-adapter';

const [model = '', imageEncoder, adapter, reference = '', out = 'out.png'] = process.argv.slice(2);
const pipeline = await IPAdapterPipeline.load({ model, imageEncoder, adapter });

const pictures = await pipeline.generate({
  prompt: 'in the snow',
  images: [reference],
  scale: 0.7,
  steps: 20,
  seed: 1,
  onStep: ({ step, totalSteps }) => process.stderr.write(`\r${step}/${totalSteps}`),
});
await pictures[0]?.save(out);
