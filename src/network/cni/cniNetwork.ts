import { z } from 'zod';
import type { NetNamespace } from '../../sys/netNamespace.ts';
import type { PublishedPort } from '../endpoint.ts';
import type { CniConfig } from './cniConfig.ts';
import { runPlugin } from './runPlugin.ts';

const interfaceName = 'eth0';

/** What was added for a container; in its state file until it is deleted again. */
export const CniRecordSchema = z.object({
  config: z.object({
    cniVersion: z.string(),
    name: z.string(),
    plugins: z.array(z.looseObject({ type: z.string() })),
  }),
  /** Directories of the plugins. */
  path: z.array(z.string()),
  /** Identities of the host's namespace, where plugins run, and of the container's. */
  hostNetns: z.string(),
  netns: z.string(),
  /** Given to the plugins that want them. */
  capabilities: z.record(z.string(), z.unknown()),
  /** Of the last plugin; missing until all of them have succeeded. */
  result: z.unknown(),
});
export type CniRecord = z.infer<typeof CniRecordSchema>;

export interface CniRun {
  readonly host: NetNamespace;
  readonly containerId: string;
  /** Undefined when it is gone. */
  readonly netns: NetNamespace | undefined;
}

/** Runs all plugins of a list, each with the result of the one before. @throws HrunError NETWORK_FAILED */
export async function cniAdd(record: CniRecord, run: CniRun): Promise<unknown> {
  let result: unknown;
  for (const plugin of record.config.plugins)
    result = (await call('ADD', plugin, record, result, run)) ?? result;
  return result;
}

/** Asks all plugins whether what they did is still there. @throws HrunError NETWORK_FAILED */
export async function cniCheck(record: CniRecord, run: CniRun): Promise<void> {
  for (const plugin of record.config.plugins) await call('CHECK', plugin, record, record.result, run);
}

/** Undoes the plugins of a list, the last first. All are run; the first failure is told. */
export async function cniDelete(record: CniRecord, run: CniRun): Promise<void> {
  const failures: unknown[] = [];
  for (const plugin of record.config.plugins.toReversed()) {
    await call('DEL', plugin, record, record.result, run).catch((error: unknown) => failures.push(error));
  }
  if (failures.length > 0) throw failures[0];
}

/** The capability portMappings, for `portmap`. */
export function portMappings(ports: readonly PublishedPort[]): object[] {
  return ports.map(({ hostIp, hostPort, guestPort, protocol }) => ({
    hostPort,
    containerPort: guestPort,
    protocol,
    ...(hostIp !== '' && { hostIP: hostIp }),
  }));
}

async function call(
  command: 'ADD' | 'CHECK' | 'DEL',
  plugin: CniConfig['plugins'][number],
  { config, path, capabilities }: CniRecord,
  prevResult: unknown,
  { host, containerId, netns }: CniRun,
): Promise<unknown> {
  const { capabilities: wanted, ...own } = plugin;
  const runtimeConfig = Object.fromEntries(
    Object.entries(capabilities).filter(([name]) => isWanted(wanted, name)),
  );
  return await runPlugin(host, {
    type: plugin.type,
    command,
    path,
    containerId,
    netnsPath: netns === undefined ? '' : `/proc/${process.pid}/fd/${netns.fd}`,
    interfaceName,
    config: {
      ...own,
      cniVersion: config.cniVersion,
      name: config.name,
      ...(Object.keys(runtimeConfig).length > 0 && { runtimeConfig }),
      ...(prevResult !== undefined && { prevResult }),
    },
  });
}

function isWanted(capabilities: unknown, name: string): boolean {
  return (
    typeof capabilities === 'object' &&
    capabilities !== null &&
    Object.entries(capabilities).some(([key, value]) => key === name && value === true)
  );
}
