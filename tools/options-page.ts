/**
 * @file docs/options.md: every option of every command with its other names, from the commands themselves.
 * `npx vitest run tools/options-page.test.ts -u` writes it.
 */
import type { Command, Option } from '@commander-js/extra-typings';
import { aliases } from '../src/options/aliases.js';

/** More than these are listed below the table, which they would make wide. */
const MAX_CHOICES = 5;

/** Returns the page. Hidden flags are other names of options, or the `--no-…` of switches. */
export function optionsPage(head: string, commands: readonly Command[]): string {
  return `${[head, ...commands.map(section)].join('\n\n')}\n`;
}

function section(command: Command): string {
  const rows = command.options.filter(({ hidden }) => !hidden).map((option) => row(option, command.options));
  const name = command.parent?.parent ? `${command.parent.name()} ${command.name()}` : command.name();
  const words = command.registeredArguments.map((argument) => ({
    name: argument.name(),
    dots: argument.variadic ? '...' : '',
  }));
  const usage = words.map(({ name, dots }) => ` <${name}${dots}>`).join('');
  const title = ['option', 'value', 'default', 'meaning', 'other names'];
  const table = rows.length === 0 ? [] : ['', alignedTable([title, ...rows])];
  const lists = command.options
    .filter((option) => !option.hidden && hasManyChoices(option))
    .map(
      ({ long, argChoices = [] }) => `\nNames for ${code(long ?? '')}: ${argChoices.map(code).join(', ')}.`,
    );
  return [`## ip-adapter ${name}${usage}`, '', command.description(), ...table, ...lists].join('\n');
}

function row(option: Option, all: readonly Option[]): string[] {
  const [, meaning = '', shownDefault, saidDefault] =
    /^(.*?)(?: \(default: (.*)\)|; default: (.*))?$/.exec(option.description) ?? [];
  const key = option.attributeName();
  const others = all
    .filter(({ hidden, negate }) => hidden && !negate)
    .filter((other) => aliases.get(other.attributeName())?.option === key)
    .map(({ long }) => code(long ?? ''));
  const isList = option.flags.endsWith('...>');
  const placeholder = /[<[](\w+)/.exec(option.flags)?.[1] ?? 'switch';
  const choices = option.argChoices?.map(code).join(', ');
  const kind = hasManyChoices(option) ? 'name, see below' : (choices ?? placeholder);
  return [
    code(option.long ?? ''),
    isList ? `${kind} …` : kind,
    shownDefault === undefined ? (saidDefault ?? '') : code(shownDefault),
    meaning,
    others.join(', '),
  ];
}

function hasManyChoices({ argChoices = [] }: Option): boolean {
  return argChoices.length > MAX_CHOICES;
}

function code(text: string): string {
  return `\`${text}\``;
}

/** A table in Markdown, in columns. */
function alignedTable(rows: readonly (readonly string[])[]): string {
  const cells = rows.map((one) => one.map((cell) => cell.replaceAll('|', '\\|')));
  const widths = (cells[0] ?? []).map((_, i) => Math.max(3, ...cells.map((one) => (one[i] ?? '').length)));
  const line = (one: readonly string[]): string =>
    `| ${one.map((cell, i) => cell.padEnd(widths[i] ?? 0)).join(' | ')} |`;
  const rule = line(widths.map((width) => '-'.repeat(width)));
  const [title = [], ...body] = cells;
  return [line(title), rule, ...body.map(line)].join('\n');
}
