// Generates an image that follows another: npx tsx examples/generate.ts <model> <image encoder> <adapter> <image> <out.png>
import { generate } from 'ip-adapter';

const [model = '', imageEncoder, adapter, reference = '', out = 'out.png'] = process.argv.slice(2);

const images = await generate(
  {
    model,
    imageEncoder,
    adapter,
    images: [reference],
    prompt: 'in the snow',
    scale: 0.7,
    steps: 20,
    seed: 1,
  },
  { onEvent: (event) => event.type === 'progress' && process.stderr.write(`\r${event.done}/${event.total}`) },
);
await images[0]?.save(out);
