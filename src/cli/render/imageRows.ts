import { clip } from '../../base/text.ts';
import { formatAgo, formatSize } from '../../base/units.ts';
import type { HistoryEntry, ImageSummary } from '../../runtime/views.ts';
import { dockerTime } from './containerRows.ts';
import type { ListShape, Row } from './format.ts';

export const imageShape: ListShape = {
  headers: {
    ID: 'IMAGE ID',
    Repository: 'REPOSITORY',
    Tag: 'TAG',
    Digest: 'DIGEST',
    CreatedSince: 'CREATED',
    CreatedAt: 'CREATED AT',
    Size: 'SIZE',
    Containers: 'CONTAINERS',
    SharedSize: 'SHARED SIZE',
    UniqueSize: 'UNIQUE SIZE',
    VirtualSize: 'VIRTUAL SIZE',
  },
  columns: ['Repository', 'Tag', 'ID', 'CreatedSince', 'Size'],
};

/** Docker leaves its own registry out of names. */
export function familiarRepository(repository: string): string {
  return repository.replace(/^docker\.io\/(?:library\/)?/, '');
}

export function imageRow(image: ImageSummary, nowMs: number, full: boolean): Row {
  return {
    ID: full ? image.id : shortDigest(image.id),
    Repository: image.repository === undefined ? '<none>' : familiarRepository(image.repository),
    Tag: image.tag ?? '<none>',
    Digest: image.digest ?? '<none>',
    CreatedSince: image.createdAtMs > 0 ? formatAgo(image.createdAtMs, nowMs) : 'N/A',
    CreatedAt: dockerTime(image.createdAtMs),
    Size: formatSize(image.sizeBytes, 3),
    Containers: String(image.containers),
    SharedSize: 'N/A',
    UniqueSize: 'N/A',
    VirtualSize: formatSize(image.sizeBytes, 4),
  };
}

export const historyShape: ListShape = {
  headers: {
    ID: 'IMAGE',
    CreatedSince: 'CREATED',
    CreatedAt: 'CREATED AT',
    CreatedBy: 'CREATED BY',
    Size: 'SIZE',
    Comment: 'COMMENT',
  },
  columns: ['ID', 'CreatedSince', 'CreatedBy', 'Size', 'Comment'],
};

const createdByLength = 45;

export function historyRow(entry: HistoryEntry, nowMs: number, full: boolean): Row {
  const createdBy = entry.createdBy.replaceAll(/\s+/g, ' ');
  return {
    ID: entry.id === undefined ? '<missing>' : full ? entry.id : shortDigest(entry.id),
    CreatedSince: entry.createdAtMs > 0 ? formatAgo(entry.createdAtMs, nowMs) : 'N/A',
    CreatedAt: new Date(entry.createdAtMs).toISOString(),
    CreatedBy: full ? createdBy : clip(createdBy, createdByLength),
    Size: formatSize(entry.sizeBytes, 3),
    Comment: entry.comment,
  };
}

/** Twelve hex digits of a digest. */
export function shortDigest(digest: string): string {
  return digest.replace(/^sha256:/, '').slice(0, 12);
}
