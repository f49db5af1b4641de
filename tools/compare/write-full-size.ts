/** @file Writes models of full size with random weights into the folder that is named (6.8 GB), where they are not there yet. */
import { mkdirSync } from 'node:fs';
import process from 'node:process';
import { writeFullSizeModels } from '../../bench/full-size/models.js';

const folder = process.argv[2] as string;
mkdirSync(folder, { recursive: true });
writeFullSizeModels(folder);
