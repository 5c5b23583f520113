// Writes what test runs have tried into the tables of docs/: `node build/report.ts NOTES`, where NOTES is the file that
// HRUN_REPORT named during the run. Rows of earlier runs stay until the same thing is tried again.
import { readFileSync, writeFileSync } from 'node:fs';
import { resolve } from 'node:path';

interface Note {
  readonly kind: string;
  readonly name: string;
  readonly facts: Readonly<Record<string, number | string>>;
}

/** Where the table of each kind is, between `<!-- report:KIND -->` and `<!-- end of report -->`. */
const pages: Readonly<Record<string, string>> = {
  fuzz: 'docs/security.md',
  chaos: 'docs/reliability.md',
  corruption: 'docs/reliability.md',
  soak: 'docs/reliability.md',
};

const [notesPath = ''] = process.argv.slice(2);
const notes = readFileSync(notesPath, 'utf8')
  .split('\n')
  .filter((line) => line !== '')
  .map((line): Note => JSON.parse(line));
const date = new Date().toISOString().slice(0, 10);

for (const [kind, page] of Object.entries(pages)) {
  const fresh = notes.filter((note) => note.kind === kind);
  if (fresh.length === 0) continue;
  const path = resolve(import.meta.dirname, '..', page);
  const text = readFileSync(path, 'utf8');
  const [, before = '', table = '', after = ''] =
    new RegExp(`^(.*<!-- report:${kind} -->\\n)(.*?)(<!-- end of report -->.*)$`, 's').exec(text) ?? [];
  if (before === '') throw new Error(`${page} has no place for a report of ${kind}`);
  const rows = new Map<string, string>();
  for (const line of table.split('\n').slice(2)) {
    const name = line.split('|')[1]?.trim();
    if (name !== undefined && name !== '') rows.set(name, line);
  }
  for (const { name, facts } of fresh) {
    const said = Object.entries(facts).map(([fact, value]) => `${format(value)} ${fact}`);
    rows.set(name, `| ${name} | ${said.join(', ')} | ${date} |`);
  }
  const lines = ['| what | tried, and what came of it | last |', '|---|---|---|', ...rows.values()];
  writeFileSync(path, `${before}${lines.join('\n')}\n${after}`);
}

function format(value: number | string): string {
  return typeof value === 'number' ? value.toLocaleString('en-US') : value;
}
