import type { NetworkDefinition } from '../../network/networkDefinition.ts';
import { complainOfDamage } from '../complainOfDamage.ts';
import { exitCodes } from '../exitCodes.ts';
import { addFilters, matches, parseFilters, passes, passesLabels } from '../parse/filters.ts';
import { dockerTime } from '../render/containerRows.ts';
import { type ListShape, type Row, renderList } from '../render/format.ts';
import type { Verb } from '../verb.ts';

interface NetworkLsFlags {
  readonly filter: readonly string[];
  readonly format?: string;
  readonly trunc: boolean;
  readonly quiet?: true;
}

const shape: ListShape = {
  headers: {
    ID: 'NETWORK ID',
    Name: 'NAME',
    Driver: 'DRIVER',
    Scope: 'SCOPE',
    IPv6: 'IPV6',
    Internal: 'INTERNAL',
    Labels: 'LABELS',
    CreatedAt: 'CREATED AT',
  },
  columns: ['ID', 'Name', 'Driver', 'Scope'],
};
const filterKeys = ['driver', 'id', 'label', 'name', 'type'];

export const networkLs: Verb = {
  configure(command) {
    addFilters(command, filterKeys);
    command.option('--format <format>', 'json, or a Go template, also "table TEMPLATE"');
    command.option('--no-trunc', 'Do not cut ids off');
    command.option('-q, --quiet', 'Show ids only');
  },

  async run(command, context) {
    const flags = command.opts<NetworkLsFlags>();
    const filters = parseFilters(flags.filter, filterKeys);
    const engine = await context.deps.engine();
    const builtIn = engine.networks.list()[0];
    const chosen = engine.networks
      .list()
      .filter(
        (network) =>
          passes(filters, 'name', (value) => matches(network.name, value)) &&
          passes(filters, 'id', (value) => network.id.startsWith(value)) &&
          passes(filters, 'driver', (value) => value === 'bridge') &&
          passes(filters, 'type', (value) => value === (network === builtIn ? 'builtin' : 'custom')) &&
          passesLabels(filters, network.labels),
      );
    const rows = chosen.map((network) => networkRow(network, !flags.trunc));
    const quiet = flags.quiet === true && flags.format === undefined;
    await context.print(
      quiet ? rows.map(({ ID }) => `${ID}\n`).join('') : renderList(rows, shape, flags.format),
    );
    await complainOfDamage('network', engine.system, context);
    return exitCodes.ok;
  },
};

function networkRow(
  { id, name, gateway6, internal, labels, createdAt }: NetworkDefinition,
  full: boolean,
): Row {
  return {
    ID: full ? id : id.slice(0, 12),
    Name: name,
    Driver: 'bridge',
    Scope: 'local',
    IPv6: String(gateway6 !== undefined),
    Internal: String(internal),
    Labels: Object.entries(labels)
      .map(([key, value]) => `${key}=${value}`)
      .join(','),
    CreatedAt: dockerTime(Date.parse(createdAt)),
    Label: (key) => labels[String(key)] ?? '',
  };
}
