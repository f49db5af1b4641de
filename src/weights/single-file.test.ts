import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { code } from '../../test/craft-torch-zip.js';
import { ldmFile, v1, xl } from '../../test/ldm-layout.js';
import { writeBin, writeSparse } from '../../test/model-files.js';
import { CheckpointError } from '../base/errors.js';
import { full, memoryStats } from '../torch/index.js';
import { loadUNet, loadVAE } from './load.js';
import { openSingleFile } from './single-file.js';

const root = mkdtempSync(join(tmpdir(), 'ip-adapter-single-'));
afterAll(() => rmSync(root, { recursive: true, force: true }));

const path = join(root, 'model.safetensors');
type Shapes = Map<string, number[]>;

/** Writes the published file with a change. */
function published(change: (shapes: Shapes) => void, sizes = v1): string {
  const shapes = ldmFile(sizes);
  change(shapes);
  writeSparse(path, shapes);
  return path;
}

const refuses = (message: RegExp, change: (shapes: Shapes) => void, sizes = v1) => {
  const file = published(change, sizes);
  expect(() => openSingleFile(file)).toThrow(CheckpointError);
  expect(() => openSingleFile(file)).toThrow(message);
};
const drop = (shapes: Shapes, prefix: string) => {
  for (const key of shapes.keys()) if (key.startsWith(prefix)) shapes.delete(key);
};

describe('a file of another kind is named', () => {
  it.each([
    [
      'cond_stage_model.model.token_embedding.weight',
      /it is Stable Diffusion 2\.x, whose text encoder is .* open_clip layout; use a model folder/,
    ],
    [
      'conditioner.embedders.0.model.ln_final.weight',
      /it is the refiner of SDXL, which has one text encoder/,
    ],
    ['edm_mean', /it is Playground v2\.5/],
    ['edm_vpred.sigma_max', /it is a model that was trained with the noise of EDM, such as CosXL/],
    [
      'model.diffusion_model.joint_blocks.0.context_block.adaLN_modulation.1.bias',
      /it is Stable Diffusion 3/,
    ],
    ['model.diffusion_model.double_blocks.0.img_attn.norm.key_norm.scale', /it is Flux/],
    ['lora_unet_mid_block_attentions_0_proj_in.alpha', /it is a LoRA/],
    ['control_model.time_embed.0.weight', /it is a ControlNet/],
  ])('%s', (key, message) => {
    refuses(message, (shapes) => shapes.set(key, [1]));
  });

  it.each([[v1, 8, 'for editing by instructions']])(
    'by its shape: %o with %i channels',
    (sizes, channels, use) => {
      const message = new RegExp(`it is a model ${use}, whose UNet has ${channels} input channels`);
      refuses(
        message,
        (shapes) => shapes.set('model.diffusion_model.input_blocks.0.0.weight', [320, channels, 3, 3]),
        sizes,
      );
    },
  );

  it('as another file, where it is unknown', () => {
    refuses(/it is another file, with the tensors encoder\.\* \(2\), bias;/, (shapes) => {
      shapes.clear();
      shapes.set('encoder.a', [1]).set('encoder.b', [1]).set('bias', [1]);
    });
  });
});

describe('an incomplete file', () => {
  it('is missing a part', () => {
    refuses(
      /but there is no first_stage_model\.\*, cond_stage_model\.transformer\.\*; use a file with UNet/,
      (shapes) => {
        drop(shapes, 'first_stage_model.');
        drop(shapes, 'cond_stage_model.');
      },
    );
  });

  it('is SDXL without text encoders, or without one', () => {
    refuses(
      /Expected all parts of Stable Diffusion XL in .* but there is no conditioner\.embedders\.0\.transformer\.\*, conditioner\.embedders\.1\.model\.\*; use a file with .* both text encoders/,
      (shapes) => drop(shapes, 'conditioner.'),
      xl,
    );
    refuses(
      /there is no conditioner\.embedders\.1\.model\.\*; use/,
      (shapes) => drop(shapes, 'conditioner.embedders.1.'),
      xl,
    );
  });

  it('is missing tensors of a part, or has others', () => {
    const file = published((shapes) => {
      shapes.delete('model.diffusion_model.input_blocks.1.0.in_layers.0.weight');
      shapes.set('model.diffusion_model.input_blocks.99.0.bias', [1]);
    });
    expect(() => loadUNet(openSingleFile(file))).toThrow(CheckpointError);
    expect(() => loadUNet(openSingleFile(file))).toThrow(
      /missing \(1\): down_blocks\.0\.resnets\.0\.norm1\.weight\n {2}unexpected \(1\): input_blocks\.99\.0\.bias/,
    );
  });

  it('has unknown tensors', () => {
    refuses(/but found others: embedding_manager\.\* \(2\), surprise$/, (shapes) =>
      shapes.set('embedding_manager.a', [1]).set('embedding_manager.b', [1]).set('surprise', [1]),
    );
  });
});

describe('tensors that belong to no part', () => {
  it('are listed', () => {
    const file = openSingleFile(
      published((shapes) => {
        drop(shapes, 'betas');
        shapes.set('model_ema.diffusion_modeltime_embed0weight', [1280, 320]).set('model_ema.decay', []);
        shapes.set('cond_stage_model.logit_scale', []);
        shapes.set('cond_stage_model.transformer.text_projection.weight', [768, 768]);
      }),
    );
    expect(file.unused).toHaveLength(11 + 4);
    expect(file.unused).toEqual(expect.arrayContaining(['alphas_cumprod_prev', 'model_ema.decay']));
  });
});

describe('the tensors', () => {
  it('belong to one model each', () => {
    const file = openSingleFile(published(() => {}));
    loadVAE(file);
    expect(() => loadVAE(file)).toThrow(/the vae of .* has already been taken/);
  });

  it('are released if they are not taken', () => {
    const initialTensors = memoryStats().liveTensors;
    {
      using _ = openSingleFile(published(() => {}));
      expect(memoryStats().liveTensors).toBeGreaterThan(initialTensors + 1000);
    }
    expect(memoryStats().liveTensors).toBe(initialTensors);
  });
});

describe('a .ckpt', () => {
  const small = new Map(
    ['model.diffusion_model.a', 'first_stage_model.b', 'cond_stage_model.transformer.c'].map(
      (key, i) => [key, full([2], i)] as const,
    ),
  );
  const ckpt = join(root, 'model.ckpt');
  const dictionary = (...items: Buffer[]) => Buffer.concat([Buffer.from('}('), ...items, Buffer.from('u')]);

  it('of PyTorch Lightning has other objects beside the weights, which are not executed', () => {
    const callback = code.global('pytorch_lightning.callbacks.model_checkpoint', 'ModelCheckpoint');
    const harmful = code.call(code.global('os', 'system'), code.text('exit 1'));
    writeBin(ckpt, small, (stateDict) =>
      dictionary(
        ...[code.text('global_step'), code.int(840000)],
        ...[code.text('callbacks'), dictionary(callback, harmful)],
        ...[code.text('state_dict'), stateDict],
      ),
    );
    const file = openSingleFile(ckpt);
    expect([...file.take('vae')].map(([key, tensor]) => [key, tensor.toNumbers()])).toEqual([['b', [1, 1]]]);
    expect(file.unused).toEqual([]);
  });

  it('with objects of a class instead of weights is refused', () => {
    const object = code.call(code.global('torch.nn.modules.linear', 'Linear'));
    writeBin(ckpt, small, (stateDict) =>
      Buffer.concat([stateDict, code.text('layer'), object, Buffer.from('s')]),
    );
    expect(() => openSingleFile(ckpt)).toThrow(CheckpointError);
    expect(() => openSingleFile(ckpt)).toThrow(/its layer is not a tensor/);
  });
});
