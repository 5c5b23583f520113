import { formatDuration } from '../../base/units.ts';
import { exitCodes } from '../exitCodes.ts';
import { type ListShape, renderList } from '../render/format.ts';
import type { Verb } from '../verb.ts';

const shape: ListShape = {
  headers: {
    Container: 'CONTAINER',
    Network: 'NETWORK',
    Destination: 'DESTINATION',
    Protocol: 'PROTOCOL',
    Packets: 'PACKETS',
    Last: 'LAST',
  },
  columns: ['Container', 'Network', 'Destination', 'Protocol', 'Packets', 'Last'],
};

/** What the containers that run were refused within the last hour. */
export const networkLog: Verb = {
  configure(command) {
    command.option('--format <format>', 'json, or a Go template, also "table TEMPLATE"');
  },

  async run(command, context) {
    const { format } = command.opts<{ readonly format?: string }>();
    const { networks } = await context.deps.engine();
    const rows = (await networks.refusals(command.args[0])).map((refusal) => ({
      Container: refusal.container,
      Network: refusal.network,
      Destination: refusal.destination.includes(':')
        ? `[${refusal.destination}]:${refusal.port}`
        : `${refusal.destination}:${refusal.port}`,
      Protocol: refusal.protocol,
      Packets: String(refusal.packets),
      Last: `${formatDuration(refusal.agoS * 1000)} ago`,
    }));
    await context.print(renderList(rows, shape, format));
    return exitCodes.ok;
  },
};
