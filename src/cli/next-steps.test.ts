import { expect, it } from 'vitest';
import { nextSteps } from './next-steps.js';

const run = {
  model: 'org/model',
  imageEncoder: 'org/encoders/vit',
  dataset: ['my images'],
  datasetRoot: undefined,
  validationImages: [],
};

it('has the commands for the adapter of the run, as a shell takes them', () => {
  expect(nextSteps({ ...run, validationImages: ["it's.png"] }, 'out/checkpoint-5').split('\n')).toEqual([
    'Next:',
    `  generate   npx ip-adapter generate --model org/model --image-encoder org/encoders/vit --adapter out/checkpoint-5 --images 'it'\\''s.png' --out out.png`,
    "  evaluate   npx ip-adapter evaluate --model org/model --image-encoder org/encoders/vit --adapter out/checkpoint-5 --dataset 'my images'",
    '  export     npx ip-adapter export out/checkpoint-5 ip-adapter.bin',
    expect.stringContaining('copy out/checkpoint-5/ip_adapter.safetensors to ComfyUI/models/ipadapter/'),
    expect.stringContaining('DiffusionPipeline.from_pretrained("org/model", image_encoder='),
    expect.stringContaining('pipe.load_ip_adapter("out/checkpoint-5", subfolder="", weight_name='),
  ]);
});

it('cannot evaluate on what came from standard input', () => {
  expect(nextSteps({ ...run, dataset: ['-'] }, 'out/checkpoint-5')).not.toContain('evaluate');
});
