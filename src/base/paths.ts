import { access, chmod, lstat, mkdir } from 'node:fs/promises';
import { isAbsolute, join } from 'node:path';
import { errnoOf, HrunError, messageOf } from './errors.ts';

/** Where everything lies; all absolute. */
export interface Paths {
  /** What survives a reboot. */
  readonly root: string;
  /** What does not: sockets, pids, sessions. */
  readonly run: string;
  readonly configFile: string;
  readonly containers: string;
  /** What happened to containers and images. */
  readonly events: string;
  readonly images: string;
  readonly cache: string;
  readonly vms: string;
  /** File systems that QEMU sees. */
  readonly jail: string;
  readonly volumes: string;
  /** The user's networks. */
  readonly networks: string;
  /** In which namespaces there is something of ours. */
  readonly fabrics: string;
  /** Records of attached commands, by token. */
  readonly sessions: string;
  readonly socket: string;
  /** Facts of the running daemon: pid, version. */
  readonly daemonFacts: string;
}

/** Longest run directory from which sockets of VMs still fit into sun_path (108 bytes with the final 0). */
const maxRunLength = 50;

/**
 * HRUN_ROOT, HRUN_RUN and HRUN_CONFIG, or the places of root, or the XDG base directories of a user.
 * @throws HrunError INVALID_CONFIG for a relative path or one too long for sockets
 */
export function pathsFrom(environment: Readonly<Record<string, string | undefined>>, uid: number): Paths {
  const home = environment.HOME ?? '/nonexistent';
  const of = (name: string, system: string, xdgName: string, xdgDefault: string, below: string): string => {
    const path = environment[name] || (uid === 0 ? system : join(environment[xdgName] || xdgDefault, below));
    if (!isAbsolute(path)) {
      throw new HrunError('INVALID_CONFIG', `${name} must be an absolute path, not "${path}"`);
    }
    return path.replace(/(?<=.)\/+$/, '');
  };
  const root = of('HRUN_ROOT', '/var/lib/hrun', 'XDG_DATA_HOME', join(home, '.local/share'), 'hrun');
  const run = of('HRUN_RUN', '/run/hrun', 'XDG_RUNTIME_DIR', `/run/user/${uid}`, 'hrun');
  const configDefault = join(home, '.config');
  const configFile = of(
    'HRUN_CONFIG',
    '/etc/hrun/config.json',
    'XDG_CONFIG_HOME',
    configDefault,
    'hrun/config.json',
  );
  if (Buffer.byteLength(run) > maxRunLength) {
    throw new HrunError('INVALID_CONFIG', `HRUN_RUN is too long for unix sockets below it: ${run}`, {
      hint: `use at most ${maxRunLength} bytes, such as /run/hrun`,
    });
  }
  return {
    root,
    run,
    configFile,
    containers: join(root, 'containers'),
    events: join(root, 'events.log'),
    images: join(root, 'images'),
    cache: join(root, 'cache'),
    vms: join(run, 'vms'),
    jail: join(root, 'cache/jail'),
    volumes: join(root, 'volumes'),
    networks: join(root, 'networks'),
    fabrics: join(run, 'fabrics'),
    sessions: join(run, 'sessions'),
    socket: join(run, 'hrund.sock'),
    daemonFacts: join(run, 'hrund.json'),
  };
}

/** Creates the directories of hrun, private to this user. @throws HrunError INVALID_CONFIG */
export async function createDirectories(paths: Paths): Promise<void> {
  const { root, run, containers, images, cache, vms, sessions } = paths;
  for (const path of [root, run, containers, images, cache, vms, sessions]) await privateDirectory(path);
}

/**
 * Makes sure that `path` is a directory of this user with mode 0700. A link, or somebody else's directory, is
 * refused: it would let another user swap what is below it.
 * @throws HrunError INVALID_CONFIG
 */
export async function privateDirectory(path: string): Promise<void> {
  try {
    await mkdir(path, { recursive: true, mode: 0o700 });
  } catch (cause) {
    const why = errnoOf(cause) === 'EEXIST' ? 'it is no directory' : messageOf(cause);
    throw new HrunError('INVALID_CONFIG', `cannot create the directory ${path}: ${why}`, { cause });
  }
  const found = await lstat(path);
  if (!found.isDirectory()) {
    throw new HrunError('INVALID_CONFIG', `${path} must be a directory, not a link or file`);
  }
  if (found.uid !== process.geteuid?.()) {
    throw new HrunError('INVALID_CONFIG', `${path} belongs to uid ${found.uid}, not to this user`);
  }
  if ((found.mode & 0o777) !== 0o700) await chmod(path, 0o700);
}

/** What a build made for the guest. */
export interface Dist {
  readonly kernelPath: string;
  readonly initramfsPath: string;
  /** OCI archive of the built-in image. */
  readonly busyboxPath: string;
  /** What is loaded into the QEMU of a clone; undefined when it was not built. */
  readonly preloadPath?: string;
  /** The native binary, for its role as the launcher of QEMU; undefined when it was not found. */
  readonly launcherPath?: string;
}

/**
 * The guest's files that belong to the daemon whose code lies in `codeDir`: beside it once installed
 * (`libexec/hrun/guest`), one up in a build (`dist/guest`), in `dist` for the sources themselves.
 */
export async function findDist(codeDir: string): Promise<Dist> {
  const candidates = [codeDir, join(codeDir, '..'), join(codeDir, '../../dist')];
  for (const base of candidates) {
    const dist = distIn(base);
    if (await exists(dist.initramfsPath)) {
      return {
        ...dist,
        ...(await preloadIn([codeDir, join(base, 'libexec')])),
        ...(await launcherIn([join(base, 'hrun'), join(codeDir, '../../bin/hrun')])),
      };
    }
  }
  return distIn(join(codeDir, '..'));
}

function distIn(base: string): Dist {
  return {
    kernelPath: join(base, 'guest/vmlinux'),
    initramfsPath: join(base, 'guest/initramfs.cpio'),
    busyboxPath: join(base, 'images/busybox.tar'),
  };
}

async function preloadIn(directories: readonly string[]): Promise<Pick<Dist, 'preloadPath'>> {
  for (const directory of directories) {
    const preloadPath = join(directory, 'hrun-preload.so');
    if (await exists(preloadPath)) return { preloadPath };
  }
  return {};
}

async function launcherIn(paths: readonly string[]): Promise<Pick<Dist, 'launcherPath'>> {
  for (const launcherPath of paths) {
    if (await exists(launcherPath)) return { launcherPath };
  }
  return {};
}

async function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}
