import { expect, it } from 'vitest';
import { nextSteps } from './next-steps.js';

const run = {
  model: 'org/model',
  imageEncoder: 'org/encoders/vit',
  dataset: ['my images'],
  datasetRoot: undefined,
  validationImages: [],
  clipSkip: 0,
};

it('has the commands for the adapter of the run, as a shell takes them', () => {
  expect(nextSteps({ ...run, validationImages: ["it's.png"] }, 'out/checkpoint-5').split('\n')).toEqual([
    'Next:',
    `  generate   npx ip-adapter generate --model org/model --image-encoder org/encoders/vit --adapter out/checkpoint-5 --images 'it'\\''s.png' --out out.png`,
    "  evaluate   npx ip-adapter evaluate --model org/model --image-encoder org/encoders/vit --adapter out/checkpoint-5 --dataset 'my images'",
    '  export     npx ip-adapter export out/checkpoint-5 ip-adapter.bin',
    expect.stringContaining('copy out/checkpoint-5/ip_adapter.safetensors to ComfyUI/models/ipadapter/'),
    '  diffusers  pipe = DiffusionPipeline.from_pretrained("org/model", image_encoder=CLIPVisionModelWithProjection.from_pretrained("org/encoders", subfolder="vit"))',
    expect.stringContaining('pipe.load_ip_adapter("out/checkpoint-5", subfolder="", weight_name='),
  ]);
});

it('keeps the clip skip, and names the call for a single file', () => {
  const steps = nextSteps({ ...run, model: 'sd.safetensors', clipSkip: 2 }, 'out/checkpoint-5');
  expect(steps.match(/--adapter out\/checkpoint-5 --clip-skip 2/g)).toHaveLength(2);
  expect(steps).toContain('StableDiffusion[XL]Pipeline.from_single_file("sd.safetensors", image_encoder=');
});

it('cannot evaluate on what came from standard input', () => {
  expect(nextSteps({ ...run, dataset: ['-'] }, 'out/checkpoint-5')).not.toContain('evaluate');
});
