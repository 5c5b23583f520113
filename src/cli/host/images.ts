import { HrunError } from '../../base/errors.ts';
import type { ImageSummary } from '../../runtime/views.ts';
import { exitCodes } from '../exitCodes.ts';
import { addFilters, type Filters, parseFilters, passes, passesLabels } from '../parse/filters.ts';
import { renderList } from '../render/format.ts';
import { familiarRepository, imageRow, imageShape, shortDigest } from '../render/imageRows.ts';
import type { Verb } from '../verb.ts';

export interface ImagesFlags {
  readonly all?: true;
  readonly digests?: true;
  readonly filter: readonly string[];
  readonly format?: string;
  readonly trunc: boolean;
  readonly quiet?: true;
}

const filterKeys = ['before', 'dangling', 'label', 'reference', 'since'];

export const images: Verb = {
  configure(command) {
    command.option('-a, --all', 'Show all images (there are no hidden ones)');
    command.option('--digests', 'Show digests');
    addFilters(command, filterKeys);
    command.option('--format <format>', 'json, or a Go template, also "table TEMPLATE"');
    command.option('--no-trunc', 'Do not cut anything off');
    command.option('-q, --quiet', 'Show ids only');
  },

  async run(command, context) {
    const flags = command.opts<ImagesFlags>();
    parseFilters(flags.filter, filterKeys);
    const engine = await context.deps.engine();
    const all = await engine.images.list(context.signal);
    const chosen = chooseImages(all, flags.filter, command.args[0]);
    await context.print(renderImages(chosen, flags, context.deps.now()));
    return exitCodes.ok;
  },
};

/** Newest first. @throws HrunError INVALID_ARGUMENT for a wrong filter */
export function chooseImages(
  all: readonly ImageSummary[],
  filterTexts: readonly string[],
  reference: string | undefined,
): readonly ImageSummary[] {
  const filters = parseFilters(filterTexts, filterKeys);
  return all
    .filter((image) => reference === undefined || isNamed(image, reference))
    .filter((image) => passesAll(image, filters, all))
    .toSorted((a, b) => b.createdAtMs - a.createdAtMs);
}

function passesAll(image: ImageSummary, filters: Filters, all: readonly ImageSummary[]): boolean {
  const createdOf = (name: string) => {
    const found = all.find((other) => isNamed(other, name) || shortDigest(other.id).startsWith(name));
    if (found === undefined) throw new HrunError('IMAGE_UNKNOWN', `no such image: ${name}`);
    return found.createdAtMs;
  };
  return (
    passes(filters, 'dangling', (value) => isTrue(value) === (image.repository === undefined)) &&
    passes(filters, 'reference', (value) => isNamed(image, value)) &&
    passes(filters, 'before', (value) => image.createdAtMs < createdOf(value)) &&
    passes(filters, 'since', (value) => image.createdAtMs > createdOf(value)) &&
    passesLabels(filters, image.labels)
  );
}

function isTrue(value: string): boolean {
  if (value === 'true' || value === '1') return true;
  if (value === 'false' || value === '0') return false;
  throw new HrunError('INVALID_ARGUMENT', `invalid filter "dangling=${value}"`);
}

/** `busybox`, `busybox:1.36`, `localhost:5000/a/*`: a repository or a name in full, `*` for any part. */
function isNamed({ repository, tag }: ImageSummary, pattern: string): boolean {
  if (repository === undefined) return false;
  const escaped = pattern.replaceAll(/[.+?^${}()|[\]\\]/g, '\\$&').replaceAll('*', '[^/]*');
  const whole = new RegExp(`^${escaped}$`);
  const names = [repository, familiarRepository(repository)];
  return names.some((name) => whole.test(name) || whole.test(`${name}:${tag ?? ''}`));
}

function renderImages(chosen: readonly ImageSummary[], flags: ImagesFlags, nowMs: number): string {
  const rows = chosen.map((image) => imageRow(image, nowMs, !flags.trunc));
  if (flags.quiet && flags.format === undefined) {
    return [...new Set(rows.map(({ ID }) => ID))].map((id) => `${id}\n`).join('');
  }
  const columns = flags.digests ? imageShape.columns.toSpliced(2, 0, 'Digest') : imageShape.columns;
  return renderList(rows, { ...imageShape, columns }, flags.format);
}
