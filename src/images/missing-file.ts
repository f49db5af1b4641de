/** @file Why a file that a dataset names may be missing: its name is often there, in another spelling. */
import { existsSync } from 'node:fs';
import { sep } from 'node:path';

/** Returns the end of the sentence 'the file is missing': what to do where the name is there in another spelling. */
export function otherSpelling(file: string): string {
  const withSlashes = file.replaceAll('\\', '/');
  if (sep === '/' && withSlashes !== file)
    return `: its path has backslashes, as Windows writes them; write / in their place${existsSync(withSlashes) ? ' (the file is there then)' : ''}`;
  const isThere = ['NFC', 'NFD'].map((form) => file.normalize(form)).some((path) => existsSync(path));
  if (isThere)
    return ', but its name is there with accents written in another way (Unicode NFC and NFD): write the path with the same characters as the file name';
  if (existsSync(Buffer.from(file, 'latin1')))
    return ', but its name is there in Latin-1, not UTF-8: rename the file (convmv -f latin1 -t utf8)';
  return '';
}
