/**
 * @file `npm start`: everything from pictures to a trained adapter, without a download. Pictures and small models
 * are made here; training is the command that one would run on one's own files.
 */
import { spawnSync } from 'node:child_process';
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import process from 'node:process';
import { captionWords, drawPictures, writePictures } from './pictures.js';
import { writeSmallModels } from './small-models.js';

const SEED = 1;
const STEPS = 60;

process.chdir(join(import.meta.dirname, '..'));
const out = 'demo-out';
const [pictures, models, encoder, adapter] = ['pictures', 'models', 'image_encoder', 'adapter'].map((name) =>
  join(out, name),
) as [string, string, string, string];

// Each start begins anew, so that what it shows is what a fresh machine shows.
rmSync(out, { recursive: true, force: true });

console.log(`\n1. Drawing 96 captioned pictures: ${pictures}/`);
const dataset = await writePictures(pictures, drawPictures(96, 128, SEED));

console.log(`2. Making small models with random weights: ${models}/, ${encoder}/`);
writeSmallModels(models, encoder, captionWords(), SEED);

const train = [
  'train',
  ...['--pretrained_model_name_or_path', models],
  ...['--image_encoder_path', encoder],
  ...['--data_json_file', dataset],
  ...['--data_root_path', pictures],
  ...['--output_dir', adapter],
  ...['--resolution', '64'],
  ...['--train_batch_size', '4'],
  ...['--save_steps', String(STEPS / 2)],
];
const command = ['npx', 'ip-adapter', ...train, '--max-train-steps', String(STEPS)];
console.log(`3. Training an IP-Adapter Plus:\n   ${wrap(command)}\n`);
// Ctrl-C reaches the command as well, which then writes a checkpoint and ends; this one waits for it.
process.on('SIGINT', () => {});
const { status } = spawnSync(command[0] as string, command.slice(1), { stdio: 'inherit' });
if (status !== 0) {
  process.exitCode = status ?? 1;
} else {
  const checkpoint = join(adapter, `checkpoint-${STEPS}`);
  console.log(`
4. The adapter is ${join(checkpoint, 'ip_adapter.safetensors')}.
   The models here know nothing, and so it draws nothing; on real ones the same command trains a real adapter.

Next:
   look into it         npx ip-adapter inspect ${join(checkpoint, 'ip_adapter.safetensors')}
   as a .bin file       npx ip-adapter export --help
   train on             ${wrap(['npx', 'ip-adapter', ...train, '--max-train-steps', String(2 * STEPS), '--resume'], 24)}
   your own pictures    the section "Train on your own files" in README.md
`);
}

/** A command over several lines, one flag each. */
function wrap(words: readonly string[], indent = 3): string {
  return words.join(' ').replaceAll(' --', ` \\\n${' '.repeat(indent)}  --`);
}
