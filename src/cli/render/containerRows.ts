import { clip } from '../../base/text.ts';
import { formatAgo, formatDuration, formatSize } from '../../base/units.ts';
import type { ContainerSummary } from '../../runtime/views.ts';
import type { ListShape, Row } from './format.ts';
import { hostsOf } from './ports.ts';

export const containerShape: ListShape = {
  headers: {
    ID: 'CONTAINER ID',
    Image: 'IMAGE',
    Command: 'COMMAND',
    CreatedAt: 'CREATED AT',
    RunningFor: 'CREATED',
    Ports: 'PORTS',
    State: 'STATE',
    Status: 'STATUS',
    Size: 'SIZE',
    Names: 'NAMES',
    Labels: 'LABELS',
    LocalVolumes: 'LOCAL VOLUMES',
    Mounts: 'MOUNTS',
    Networks: 'NETWORKS',
  },
  columns: ['ID', 'Image', 'Command', 'RunningFor', 'Status', 'Ports', 'Names'],
};

const commandLength = 20;

/** A container as a row of `ps`; `full` neither cuts ids nor commands off. */
export function containerRow(container: ContainerSummary, nowMs: number, full: boolean): Row {
  const { id, name, image, command, createdAtMs, labels, mounts, networks, ports, volumes, sizeBytes } =
    container;
  const words = commandText(command);
  return {
    ID: full ? id : id.slice(0, 12),
    Image: image,
    Command: JSON.stringify(full ? words : clip(words, commandLength)),
    CreatedAt: dockerTime(createdAtMs),
    RunningFor: formatAgo(createdAtMs, nowMs),
    Ports: ports
      .flatMap((port) => hostsOf(port).map((host) => `${host}->${port.guestPort}/${port.protocol}`))
      .join(', '),
    State: stateOf(container),
    Status: statusText(container, nowMs),
    Size: sizeBytes === undefined ? '0B' : formatSize(sizeBytes, 3),
    Names: name,
    Labels: Object.entries(labels)
      .map(([key, value]) => `${key}=${value}`)
      .join(','),
    LocalVolumes: String(volumes),
    Mounts: mounts.join(','),
    Networks: networks.length === 0 ? 'none' : networks.join(','),
    Label: (key) => labels[String(key)] ?? '',
  };
}

/** Docker's: an argument with a blank in it stands in quotes. */
function commandText(command: readonly string[]): string {
  return command.map((word, index) => (index > 0 && word.includes(' ') ? `'${word}'` : word)).join(' ');
}

/** Docker's word for a state: what is on its way up is still only created. */
export function stateOf({ status }: Pick<ContainerSummary, 'status'>): string {
  return status === 'starting' ? 'created' : status;
}

/** `Up 5 minutes`, `Exited (0) 2 hours ago`, `Created`. */
function statusText(
  { status, startedAtMs, finishedAtMs, exitCode }: ContainerSummary,
  nowMs: number,
): string {
  switch (status) {
    case 'created':
    case 'starting':
      return 'Created';
    case 'running':
      return `Up ${formatDuration(Math.max(0, nowMs - (startedAtMs ?? nowMs)))}`;
    case 'exited':
      return `Exited (${exitCode}) ${formatAgo(finishedAtMs ?? nowMs, nowMs)}`;
  }
}

/** `2026-01-31 12:00:00 +0000 UTC`, as Go prints a time. */
export function dockerTime(timeMs: number): string {
  return `${new Date(timeMs).toISOString().slice(0, 19).replace('T', ' ')} +0000 UTC`;
}
