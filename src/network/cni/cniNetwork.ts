import { z } from 'zod';
import type { NetNamespace } from '../../sys/netNamespace.ts';
import { declares } from './cniCapabilities.ts';
import type { CniConfig } from './cniConfig.ts';
import { runPlugin } from './runPlugin.ts';

const interfaceName = 'eth0';

/** What was added for a container; in its state file until it is deleted again. */
export const CniRecordSchema = z.object({
  config: z.object({
    cniVersion: z.string(),
    name: z.string(),
    disableCheck: z.boolean().optional(),
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

/** As far as it is read here. */
const Result = z.looseObject({
  interfaces: z.array(z.looseObject({ sandbox: z.string().optional() })),
});

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

/**
 * Asks all plugins whether what they did is still there, where the specification lets a runtime ask.
 * @throws HrunError NETWORK_FAILED
 */
export async function cniCheck(record: CniRecord, run: CniRun): Promise<void> {
  if (record.config.disableCheck === true || !knowsCheck(record.config)) return;
  for (const plugin of record.config.plugins) await call('CHECK', plugin, record, record.result, run);
}

/** Undoes the plugins of a list, the last first. All are run; the first failure is told. */
export async function cniDelete(record: CniRecord, run: CniRun): Promise<void> {
  const failures: unknown[] = [];
  for (const plugin of record.config.plugins.toReversed()) {
    // before there was CHECK, a plugin had to undo its work without
    const result = knowsCheck(record.config) ? record.result : undefined;
    await call('DEL', plugin, record, result, run).catch((error: unknown) => failures.push(error));
  }
  if (failures.length > 0) throw failures[0];
}

/** Version 0.4.0 of the specification brought CHECK, and the result for DEL. */
function knowsCheck({ cniVersion }: CniConfig): boolean {
  const [major = 0, minor = 0] = cniVersion.split('.').map(Number);
  return major > 0 || minor >= 4;
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
    Object.entries(capabilities).filter(([name]) => declares(wanted, name)),
  );
  const netnsPath = netns === undefined ? '' : `/proc/${process.pid}/fd/${netns.fd}`;
  return await runPlugin(host, {
    type: plugin.type,
    command,
    path,
    containerId,
    netnsPath,
    interfaceName,
    config: {
      ...own,
      cniVersion: config.cniVersion,
      name: config.name,
      ...(Object.keys(runtimeConfig).length > 0 && { runtimeConfig }),
      ...(prevResult !== undefined && { prevResult: withSandbox(prevResult, netnsPath) }),
    },
  });
}

/**
 * The result with the path that the container's namespace has now: another daemon has it open as another file, and plugins
 * compare.
 */
function withSandbox(result: unknown, path: string): unknown {
  const parsed = Result.safeParse(result);
  if (!parsed.success || path === '') return result;
  const interfaces = parsed.data.interfaces.map((one) => (one.sandbox ? { ...one, sandbox: path } : one));
  return { ...parsed.data, interfaces };
}
