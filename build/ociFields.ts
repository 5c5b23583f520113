/** Writes docs/oci-fields.md from the code; with --check only says whether it is up to date. */
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { entryOf, fieldPaths, fieldTable } from '../src/oci/ociFields.ts';

const page = join(import.meta.dirname, '../docs/oci-fields.md');

const intro = `# Fields of config.json

What becomes of every field of the OCI runtime-spec (1.0.0 to 1.3.x). Made from the code by \`node build/ociFields.ts\`;
\`make check\` holds it to the schema. Fields the spec does not know are ignored, as runc ignores them.

- **guest**: applied by the agent inside the microVM, per container, with runc's order and semantics.
- **host**: applied on the host, to the processes that stand for the container there.
- **refused**: \`create\` fails with an error that names the field, unless it is absent or empty.
- **no effect**: any value holds anyway; the note says why.

| field | where | how |
| --- | --- | --- |
`;

const paths = fieldPaths();
const missing = paths.filter((path) => entryOf(path) === undefined);
const unknown = Object.keys(fieldTable).filter(
  (path) =>
    !paths.some((field) => field === path || ['.', '[', '{'].some((next) => field.startsWith(path + next))),
);
if (missing.length > 0 || unknown.length > 0) {
  console.error(
    `fields without an entry: ${missing.join(', ')}; entries without a field: ${unknown.join(', ')}`,
  );
  process.exit(1);
}
const rows = paths.map((path) => {
  const entry = entryOf(path);
  return `| \`${path}\` | ${entry?.place} | ${entry?.note} |\n`;
});
const text = intro + rows.join('');
if (process.argv.includes('--check')) {
  if ((await readFile(page, 'utf8').catch(() => '')) !== text) {
    console.error('docs/oci-fields.md is not what the code says: run node build/ociFields.ts');
    process.exit(1);
  }
} else {
  await writeFile(page, text);
}
