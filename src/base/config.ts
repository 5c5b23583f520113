import { readFile } from 'node:fs/promises';
import { z } from 'zod';
import { errnoOf, HrunError, messageOf } from './errors.ts';
import { findTool } from './findTool.ts';
import { type JailStep, jailSteps } from './jailSteps.ts';
import { parseTemplateScope, type WishedScope } from './templateScope.ts';
import { parseSize } from './units.ts';

const absolutePath = z.string().startsWith('/', 'must be an absolute path');
const sizeBytes = z.string().transform((text, context) => {
  try {
    return parseSize(text, 'size');
  } catch {
    context.addIssue({ code: 'custom', message: `"${text}" is not a size such as "512m"` });
    return z.NEVER;
  }
});

const templateScope = z.string().transform((text, context) => {
  try {
    return parseTemplateScope(text);
  } catch (error) {
    context.addIssue({ code: 'custom', message: messageOf(error) });
    return z.NEVER;
  }
});

/** What is above is no user for some of the calls and programs that know them. */
const maxUid = 2 ** 31 - 2;

/** The keys of config.json; docs/configuration.md describes each. */
const ConfigFile = z.strictObject({
  accelerator: z.enum(['auto', 'kvm', 'tcg']).default('auto'),
  memory: sizeBytes.prefault('512m'),
  cpus: z.number().positive().max(255).default(1),
  storageSize: sizeBytes.prefault('10g'),
  kernel: absolutePath.optional(),
  initramfs: absolutePath.optional(),
  qemuPath: absolutePath.optional(),
  insecureRegistries: z.array(z.string().min(1)).default([]),
  agentTimeoutMs: z.int().positive().default(30_000),
  bootTimeoutMs: z.int().positive().default(60_000),
  stopTimeoutS: z.int().nonnegative().default(10),
  logMaxSize: sizeBytes.prefault('64m'),
  imageDiskSize: sizeBytes.prefault('64g'),
  imageMaxEntries: z.int().positive().default(1_000_000),
  templateScope: templateScope.prefault('host'),
  poolReady: z.int().nonnegative().max(1000).default(2),
  poolIdleTimeoutS: z.int().positive().default(600),
  poolRefillPauseMs: z.int().nonnegative().default(200),
  poolMemory: sizeBytes.prefault('1g'),
  poolMinAvailablePercent: z.int().min(0).max(90).default(10),
  network: z.enum(['bridge', 'user', 'none']).optional(),
  bridge: z
    .string()
    .regex(/^[a-zA-Z0-9_.-]{1,15}$/)
    .default('hrun0'),
  bridgeSubnet: z.string().default('10.213.0.0/16'),
  cniConfigDir: absolutePath.default('/etc/cni/net.d'),
  cniPath: z.array(absolutePath).default(['/opt/cni/bin', '/usr/lib/cni']),
  bridgeSubnet6: z.string().default('fd68:7275:6e00::/64'),
  jailUidFirst: z.int().min(1).max(maxUid).default(2_000_000_000),
  jailUidCount: z.int().min(1).max(maxUid).default(65_536),
  allowWeakerJail: z.array(z.enum(jailSteps)).default([]),
  hostNetworkRuntime: z.string().min(1).optional(),
  bundleKernels: z.array(absolutePath).default([]),
  logLevel: z.enum(['debug', 'info', 'warn', 'error', 'silent']).default('info'),
});

/** What is in force: the file's values or their defaults, with units in the names. */
export interface Config {
  readonly accelerator: 'auto' | 'kvm' | 'tcg';
  readonly memoryBytes: number;
  readonly cpus: number;
  /** Size of a container's writable disk. */
  readonly storageBytes: number;
  readonly kernelPath: string | undefined;
  readonly initramfsPath: string | undefined;
  readonly qemuPath: string | undefined;
  /** `host[:port]`: plain http and unverifiable certificates are accepted from these. */
  readonly insecureRegistries: readonly string[];
  readonly agentTimeoutMs: number;
  readonly bootTimeoutMs: number;
  readonly stopTimeoutS: number;
  /** Size at which a container's output log is rotated. */
  readonly logMaxBytes: number;
  /** Largest file system that an image may become. */
  readonly imageDiskBytes: number;
  /** Most files and other entries that one layer may have. */
  readonly imageMaxEntries: number;
  /** Of containers that do not say: whose guests their microVMs may share memory with. */
  readonly templateScope: WishedScope;
  /** Clones kept ready for each shape and image in use. */
  readonly poolReady: number;
  readonly poolIdleTimeoutMs: number;
  readonly poolRefillPauseMs: number;
  readonly poolMemoryBytes: number;
  readonly poolMinAvailablePercent: number;
  /** Network of a container that asks for none in particular; undefined: loopback only. */
  readonly defaultNetwork: 'bridge' | 'user' | undefined;
  /** Name of the bridge of the network `bridge`. */
  readonly bridge: string;
  /** Its ranges; that of IPv6 may be empty. */
  readonly bridgeSubnet: string;
  readonly bridgeSubnet6: string;
  /** Where CNI configurations and plugins are. */
  readonly cniConfigDir: string;
  readonly cniPath: readonly string[];
  /** Users for microVMs, one for each, where the daemon is root. */
  readonly jailUids: { readonly first: number; readonly count: number };
  /** Steps of the jail around QEMU that may be impossible. */
  readonly allowWeakerJail: readonly JailStep[];
  /** Name or path of the OCI runtime that bundles without a network namespace of their own go to. */
  readonly hostNetworkRuntime: string | undefined;
  /** Kernels and initramfs files that bundles may name. */
  readonly bundleKernels: readonly string[];
  readonly logLevel: 'debug' | 'info' | 'warn' | 'error' | 'silent';
}

/**
 * Reads the configuration; a missing file is an empty one.
 * @throws HrunError INVALID_CONFIG naming the file and every wrong or unknown key
 */
export async function readConfig(path: string): Promise<Config> {
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (cause) {
    if (errnoOf(cause) === 'ENOENT') return parseConfig('{}', path);
    throw new HrunError('INVALID_CONFIG', `cannot read ${path}: ${messageOf(cause)}`, { cause });
  }
  return parseConfig(text, path);
}

/** As `readConfig`, for text already read from `path`. */
export function parseConfig(text: string, path: string): Config {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (cause) {
    throw new HrunError('INVALID_CONFIG', `${path} is not JSON: ${messageOf(cause)}`, { cause });
  }
  const parsed = ConfigFile.safeParse(json);
  if (!parsed.success) {
    const reasons = parsed.error.issues.map(describeIssue).join('; ');
    throw new HrunError('INVALID_CONFIG', `${path}: ${reasons}`, {
      hint: 'docs/configuration.md lists the keys and their values',
    });
  }
  const file = parsed.data;
  return {
    accelerator: file.accelerator,
    memoryBytes: file.memory,
    cpus: file.cpus,
    storageBytes: file.storageSize,
    kernelPath: file.kernel,
    initramfsPath: file.initramfs,
    qemuPath: file.qemuPath,
    insecureRegistries: file.insecureRegistries,
    agentTimeoutMs: file.agentTimeoutMs,
    bootTimeoutMs: file.bootTimeoutMs,
    stopTimeoutS: file.stopTimeoutS,
    logMaxBytes: file.logMaxSize,
    imageDiskBytes: file.imageDiskSize,
    imageMaxEntries: file.imageMaxEntries,
    templateScope: file.templateScope,
    poolReady: file.poolReady,
    poolIdleTimeoutMs: file.poolIdleTimeoutS * 1000,
    poolRefillPauseMs: file.poolRefillPauseMs,
    poolMemoryBytes: file.poolMemory,
    poolMinAvailablePercent: file.poolMinAvailablePercent,
    defaultNetwork: networkOf(file.network),
    bridge: file.bridge,
    bridgeSubnet: file.bridgeSubnet,
    bridgeSubnet6: file.bridgeSubnet6,
    cniConfigDir: file.cniConfigDir,
    cniPath: file.cniPath,
    jailUids: {
      first: file.jailUidFirst,
      count: Math.min(file.jailUidCount, maxUid - file.jailUidFirst + 1),
    },
    allowWeakerJail: file.allowWeakerJail,
    hostNetworkRuntime: file.hostNetworkRuntime,
    bundleKernels: file.bundleKernels,
    logLevel: file.logLevel,
  };
}

/** A bridge is root's; others have a network where passt is installed. */
function networkOf(network: 'bridge' | 'user' | 'none' | undefined): 'bridge' | 'user' | undefined {
  const own = () => (findTool('passt') === undefined ? 'none' : 'user');
  const chosen = network ?? (process.getuid?.() === 0 ? 'bridge' : own());
  return chosen === 'none' ? undefined : chosen;
}

function describeIssue(issue: z.core.$ZodIssue): string {
  if (issue.code === 'unrecognized_keys') {
    return issue.keys.map((key) => `unknown key "${key}"`).join(', ');
  }
  const at = issue.path.join('.');
  return at === '' ? issue.message : `"${at}": ${issue.message}`;
}
