/** @file Explains why a file of a dataset is missing: often it exists under another spelling of its name. */
import { existsSync } from 'node:fs';
import { sep } from 'node:path';

/** Returns an addition to 'the file is missing' if the file exists under another spelling, with what to do; else ''. */
export function otherSpelling(file: string): string {
  const withSlashes = file.replaceAll('\\', '/');
  if (sep === '/' && withSlashes !== file)
    return `: its path has backslashes, as on Windows; use / instead${existsSync(withSlashes) ? ' (that file exists)' : ''}`;
  const isThere = ['NFC', 'NFD'].map((form) => file.normalize(form)).some((path) => existsSync(path));
  if (isThere)
    return ', but a file exists whose name has its accents encoded differently (Unicode NFC or NFD): use the same characters as in the file name';
  if (existsSync(Buffer.from(file, 'latin1')))
    return ', but a file exists whose name is in Latin-1, not UTF-8: rename the file (convmv -f latin1 -t utf8)';
  return '';
}
