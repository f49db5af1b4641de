/** @file File formats: safetensors, and the zip files of torch.save. */
export { Unread } from './pickle.js';
export { readSafetensors, safetensorsSize, writeSafetensors } from './safetensors.js';
export { readTorchZip, writeTorchZip } from './torch-zip.js';
export { unzip } from './unzip.js';
