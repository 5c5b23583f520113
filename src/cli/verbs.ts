import type { VerbEntry } from './verb.ts';

const many = Number.POSITIVE_INFINITY;

/** The verbs, in the order in which help shows them. Their code is loaded when they are called. */
export const verbEntries: readonly VerbEntry[] = [
  {
    name: 'run',
    aliases: ['container run'],
    summary: 'Create and start a container in its own microVM',
    usage: '[OPTIONS] IMAGE [COMMAND] [ARG...]',
    args: [1, many],
    passThrough: true,
    answersForWorkload: true,
    load: async () => (await import('./host/run.ts')).run,
  },
  {
    name: 'exec',
    aliases: ['container exec'],
    summary: 'Run a command in a running container',
    usage: '[OPTIONS] CONTAINER COMMAND [ARG...]',
    args: [2, many],
    passThrough: true,
    load: async () => (await import('./host/exec.ts')).exec,
  },
  {
    name: 'ps',
    aliases: ['container ls', 'container list', 'container ps'],
    summary: 'List containers',
    usage: '[OPTIONS]',
    args: [0, 0],
    load: async () => (await import('./host/ps.ts')).ps,
  },
  {
    name: 'logs',
    aliases: ['container logs'],
    summary: 'Show the output of a container',
    usage: '[OPTIONS] CONTAINER',
    args: [1, 1],
    load: async () => (await import('./host/logs.ts')).logs,
  },
  {
    name: 'attach',
    aliases: ['container attach'],
    summary: 'Attach stdin, stdout and stderr to a running container',
    usage: '[OPTIONS] CONTAINER',
    args: [1, 1],
    load: async () => (await import('./host/attach.ts')).attach,
  },
  {
    name: 'create',
    aliases: ['container create'],
    summary: 'Create a container without starting it',
    usage: '[OPTIONS] IMAGE [COMMAND] [ARG...]',
    args: [1, many],
    passThrough: true,
    load: async () => (await import('./host/create.ts')).create,
  },
  {
    name: 'start',
    aliases: ['container start'],
    summary: 'Start containers that were created or have ended',
    usage: '[OPTIONS] CONTAINER [CONTAINER...]',
    args: [1, many],
    load: async () => (await import('./host/start.ts')).start,
  },
  {
    name: 'stop',
    aliases: ['container stop'],
    summary: 'Stop running containers',
    usage: '[OPTIONS] CONTAINER [CONTAINER...]',
    args: [1, many],
    load: async () => (await import('./host/stop.ts')).stop,
  },
  {
    name: 'restart',
    aliases: ['container restart'],
    summary: 'Stop containers and start them again',
    usage: '[OPTIONS] CONTAINER [CONTAINER...]',
    args: [1, many],
    load: async () => (await import('./host/restart.ts')).restart,
  },
  {
    name: 'kill',
    aliases: ['container kill'],
    summary: 'Send a signal to running containers',
    usage: '[OPTIONS] CONTAINER [CONTAINER...]',
    args: [1, many],
    load: async () => (await import('./host/kill.ts')).kill,
  },
  {
    name: 'wait',
    aliases: ['container wait'],
    summary: 'Wait until containers end, then print their exit codes',
    usage: '[OPTIONS] CONTAINER [CONTAINER...]',
    args: [1, many],
    load: async () => (await import('./host/wait.ts')).wait,
  },
  {
    name: 'rm',
    aliases: ['container rm', 'container remove'],
    summary: 'Remove containers',
    usage: '[OPTIONS] CONTAINER [CONTAINER...]',
    args: [1, many],
    load: async () => (await import('./host/rm.ts')).rm,
  },
  {
    name: 'rename',
    aliases: ['container rename'],
    summary: 'Give a container another name',
    usage: 'CONTAINER NEW_NAME',
    args: [2, 2],
    load: async () => (await import('./host/rename.ts')).rename,
  },
  {
    name: 'top',
    aliases: ['container top'],
    summary: 'Show the processes of a container',
    usage: 'CONTAINER [ps OPTIONS]',
    args: [1, many],
    passThrough: true,
    load: async () => (await import('./host/top.ts')).top,
  },
  {
    name: 'port',
    aliases: ['container port'],
    summary: 'Show where the ports of a container are published',
    usage:
      'CONTAINER [PORT[/PROTOCOL]]\n       hrun port add CONTAINER [IP:][HOST_PORT:]CONTAINER_PORT[/PROTOCOL]...\n       hrun port rm CONTAINER PORT[/PROTOCOL]...',
    args: [1, many],
    load: async () => (await import('./host/port.ts')).port,
  },
  {
    name: 'cp',
    aliases: ['container cp'],
    summary: 'Copy files between a container and this machine',
    usage:
      '[OPTIONS] CONTAINER:SRC_PATH DEST_PATH|-\n       hrun cp [OPTIONS] SRC_PATH|- CONTAINER:DEST_PATH',
    args: [2, 2],
    load: async () => (await import('./host/cp.ts')).cp,
  },
  {
    name: 'inspect',
    summary: 'Show all about containers or images as JSON',
    usage: '[OPTIONS] NAME|ID [NAME|ID...]',
    args: [1, many],
    load: async () => (await import('./host/inspect.ts')).inspect,
  },
  {
    name: 'container inspect',
    summary: 'Show all about containers as JSON',
    usage: '[OPTIONS] CONTAINER [CONTAINER...]',
    args: [1, many],
    load: async () => (await import('./host/inspect.ts')).containerInspect,
  },
  {
    name: 'images',
    aliases: ['image ls', 'image list'],
    summary: 'List images',
    usage: '[OPTIONS] [REPOSITORY[:TAG]]',
    args: [0, 1],
    load: async () => (await import('./host/images.ts')).images,
  },
  {
    name: 'pull',
    aliases: ['image pull'],
    summary: 'Download an image from a registry',
    usage: '[OPTIONS] NAME[:TAG|@DIGEST]',
    args: [1, 1],
    load: async () => (await import('./host/pull.ts')).pull,
  },
  {
    name: 'load',
    aliases: ['image load'],
    summary: 'Load images from an OCI layout or docker-archive',
    usage: '[OPTIONS]',
    args: [0, 0],
    load: async () => (await import('./host/load.ts')).load,
  },
  {
    name: 'import',
    aliases: ['image import'],
    summary: 'Make an image of a root file system in a tar',
    usage: '[OPTIONS] FILE|- [REPOSITORY[:TAG]]',
    args: [1, 2],
    load: async () => (await import('./host/import.ts')).importImage,
  },
  {
    name: 'save',
    aliases: ['image save'],
    summary: 'Write images to an archive',
    usage: '[OPTIONS] IMAGE [IMAGE...]',
    args: [1, many],
    load: async () => (await import('./host/save.ts')).save,
  },
  {
    name: 'tag',
    aliases: ['image tag'],
    summary: 'Give an image another name',
    usage: 'SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]',
    args: [2, 2],
    load: async () => (await import('./host/tag.ts')).tag,
  },
  {
    name: 'rmi',
    aliases: ['image rm', 'image remove'],
    summary: 'Remove images',
    usage: '[OPTIONS] IMAGE [IMAGE...]',
    args: [1, many],
    load: async () => (await import('./host/rmi.ts')).rmi,
  },
  {
    name: 'history',
    aliases: ['image history'],
    summary: 'Show how an image was made',
    usage: '[OPTIONS] IMAGE',
    args: [1, 1],
    load: async () => (await import('./host/history.ts')).history,
  },
  {
    name: 'image inspect',
    summary: 'Show all about images as JSON',
    usage: '[OPTIONS] IMAGE [IMAGE...]',
    args: [1, many],
    load: async () => (await import('./host/inspect.ts')).imageInspect,
  },
  {
    name: 'image prune',
    summary: 'Remove images that are not used',
    usage: '[OPTIONS]',
    args: [0, 0],
    load: async () => (await import('./host/imagePrune.ts')).imagePrune,
  },
  {
    name: 'events',
    aliases: ['system events'],
    summary: 'Show what happens to containers and images',
    usage: '[OPTIONS]',
    args: [0, 0],
    load: async () => (await import('./host/events.ts')).events,
  },
  {
    name: 'network create',
    summary: 'Create a network',
    usage: '[OPTIONS] NETWORK',
    args: [1, 1],
    load: async () => (await import('./host/networkCreate.ts')).networkCreate,
  },
  {
    name: 'network connect',
    summary: 'Connect a container to a network',
    usage: '[OPTIONS] NETWORK CONTAINER',
    args: [2, 2],
    load: async () => (await import('./host/networkConnect.ts')).networkConnect,
  },
  {
    name: 'network disconnect',
    summary: 'Take a container off a network',
    usage: '[OPTIONS] NETWORK CONTAINER',
    args: [2, 2],
    load: async () => (await import('./host/networkConnect.ts')).networkDisconnect,
  },
  {
    name: 'network ls',
    aliases: ['network list'],
    summary: 'List networks',
    usage: '[OPTIONS]',
    args: [0, 0],
    load: async () => (await import('./host/networkLs.ts')).networkLs,
  },
  {
    name: 'network inspect',
    summary: 'Show all about networks as JSON',
    usage: '[OPTIONS] NETWORK [NETWORK...]',
    args: [1, many],
    load: async () => (await import('./host/networkInspect.ts')).networkInspect,
  },
  {
    name: 'network rm',
    aliases: ['network remove'],
    summary: 'Remove networks',
    usage: '[OPTIONS] NETWORK [NETWORK...]',
    args: [1, many],
    load: async () => (await import('./host/networkRm.ts')).networkRm,
  },
  {
    name: 'network prune',
    summary: 'Remove networks that no container is connected to',
    usage: '[OPTIONS]',
    args: [0, 0],
    load: async () => (await import('./host/networkRm.ts')).networkPrune,
  },
  {
    name: 'network log',
    summary: 'Show what containers were refused to reach',
    usage: '[OPTIONS] [NETWORK]',
    args: [0, 1],
    load: async () => (await import('./host/networkLog.ts')).networkLog,
  },
  {
    name: 'volume create',
    summary: 'Create a volume',
    usage: '[OPTIONS] [VOLUME]',
    args: [0, 1],
    load: async () => (await import('./host/volumeCreate.ts')).volumeCreate,
  },
  {
    name: 'volume ls',
    aliases: ['volume list'],
    summary: 'List volumes',
    usage: '[OPTIONS]',
    args: [0, 0],
    load: async () => (await import('./host/volumeLs.ts')).volumeLs,
  },
  {
    name: 'volume inspect',
    summary: 'Show all about volumes as JSON',
    usage: '[OPTIONS] VOLUME [VOLUME...]',
    args: [1, many],
    load: async () => (await import('./host/volumeInspect.ts')).volumeInspect,
  },
  {
    name: 'volume rm',
    aliases: ['volume remove'],
    summary: 'Remove volumes',
    usage: '[OPTIONS] VOLUME [VOLUME...]',
    args: [1, many],
    load: async () => (await import('./host/volumeRm.ts')).volumeRm,
  },
  {
    name: 'volume prune',
    summary: 'Remove volumes that no container has',
    usage: '[OPTIONS]',
    args: [0, 0],
    load: async () => (await import('./host/volumeRm.ts')).volumePrune,
  },
  {
    name: 'volume resize',
    summary: 'Make the disk of a volume bigger',
    usage: '--size SIZE VOLUME',
    args: [1, 1],
    load: async () => (await import('./host/volumeCreate.ts')).volumeResize,
  },
  {
    name: 'volume export',
    summary: 'Write what a volume holds as a tar',
    usage: '[OPTIONS] VOLUME',
    args: [1, 1],
    load: async () => (await import('./host/volumeTransfer.ts')).volumeExport,
  },
  {
    name: 'volume import',
    summary: 'Extract a tar into a volume',
    usage: 'VOLUME [FILE|-]',
    args: [1, 2],
    load: async () => (await import('./host/volumeTransfer.ts')).volumeImport,
  },
  {
    name: 'version',
    summary: 'Show the versions of hrun and what it stands on',
    usage: '[OPTIONS]',
    args: [0, 0],
    load: async () => (await import('./host/version.ts')).version,
  },
  {
    name: 'info',
    aliases: ['system info'],
    summary: 'Show what is in force: paths, configuration, accelerator',
    usage: '[OPTIONS]',
    args: [0, 0],
    load: async () => (await import('./host/info.ts')).info,
  },
  {
    name: 'doctor',
    summary: 'Check this machine and say what to do about what is missing',
    usage: '[OPTIONS]',
    args: [0, 0],
    load: async () => (await import('./host/doctor.ts')).doctor,
  },
  {
    name: 'completion',
    summary: 'Print the completion script of a shell: bash, zsh or fish',
    usage: 'SHELL',
    args: [1, 1],
    load: async () => (await import('./host/completion.ts')).completion,
  },
  {
    name: 'daemon status',
    summary: 'Show the daemon that answers',
    usage: '[OPTIONS]',
    args: [0, 0],
    load: async () => (await import('./host/daemonStatus.ts')).daemonStatus,
  },
  {
    name: 'daemon stop',
    summary: 'Stop the daemon; the next command starts it again',
    usage: '[OPTIONS]',
    args: [0, 0],
    load: async () => (await import('./host/daemonStop.ts')).daemonStop,
  },
  {
    name: 'template ls',
    aliases: ['template list'],
    summary: 'List the saved guests that microVMs are cloned from',
    usage: '[OPTIONS]',
    args: [0, 0],
    load: async () => (await import('./host/template.ts')).templateList,
  },
  {
    name: 'template build',
    summary: 'Save a guest, so that the first container of its shape is a clone',
    usage: '[OPTIONS]',
    args: [0, 0],
    load: async () => (await import('./host/template.ts')).templateBuild,
  },
  {
    name: 'template rm',
    aliases: ['template remove'],
    summary: 'Remove templates',
    usage: 'TEMPLATE [TEMPLATE...]',
    args: [1, many],
    load: async () => (await import('./host/template.ts')).templateRemove,
  },
  {
    name: 'template prune',
    summary: 'Remove templates that nothing can be cloned from any more',
    usage: '[OPTIONS]',
    args: [0, 0],
    load: async () => (await import('./host/template.ts')).templatePrune,
  },
  {
    name: 'bench',
    summary: 'Measure cold, cloned and pooled launches and exec on this host',
    usage: '[OPTIONS] [IMAGE] [COMMAND] [ARG...]',
    args: [0, many],
    passThrough: true,
    load: async () => (await import('./host/bench.ts')).bench,
  },
  {
    name: 'pool status',
    summary: 'Show the clones that wait for a container',
    usage: '[OPTIONS]',
    args: [0, 0],
    load: async () => (await import('./host/pool.ts')).poolStatus,
  },
  {
    name: 'pool set',
    summary: 'Change how many clones wait, until the daemon ends',
    usage: '[OPTIONS]',
    args: [0, 0],
    load: async () => (await import('./host/pool.ts')).poolSet,
  },
];

/** Words that only say what the next word is about. */
export const verbGroups = [
  'container',
  'image',
  'network',
  'volume',
  'system',
  'template',
  'pool',
  'daemon',
] as const;
export type VerbGroup = (typeof verbGroups)[number];

export type FoundVerb =
  | { readonly kind: 'verb'; readonly entry: VerbEntry; readonly args: readonly string[] }
  | { readonly kind: 'help' }
  /** A group without a verb of it; `asked`: with --help. */
  | { readonly kind: 'group'; readonly group: VerbGroup; readonly asked: boolean }
  | { readonly kind: 'unknown'; readonly name: string; readonly suggestion: string };

/** The verb that a command line starts with. */
export function findVerb(argv: readonly string[]): FoundVerb {
  const [first, second] = argv;
  if (first === undefined || first === '--help' || first === '-h') return { kind: 'help' };
  if (first === 'help')
    return second === undefined ? { kind: 'help' } : findVerb([...argv.slice(1), '--help']);
  const group = verbGroups.find((name) => name === first);
  if (group !== undefined) {
    const asked = second === '--help';
    if (second === undefined || asked) return { kind: 'group', group, asked };
    const entry = entryNamed(`${first} ${second}`);
    if (entry !== undefined) return { kind: 'verb', entry, args: argv.slice(2) };
    return unknown(`${first} ${second}`);
  }
  const entry = entryNamed(first);
  return entry === undefined ? unknown(first) : { kind: 'verb', entry, args: argv.slice(1) };
}

/** The verb that words name, and those after it; undefined when they name none yet. */
export function entryOfWords(
  words: readonly string[],
): { readonly entry: VerbEntry; readonly rest: readonly string[] } | undefined {
  const found = findVerb(words);
  if (found.kind !== 'verb') return undefined;
  return { entry: found.entry, rest: found.args };
}

/** The entry of a name or alias. */
function entryNamed(name: string): VerbEntry | undefined {
  return verbEntries.find((entry) => entry.name === name || entry.aliases?.includes(name));
}

function unknown(name: string): FoundVerb {
  const names = verbEntries.flatMap((entry) => [entry.name, ...(entry.aliases ?? [])]);
  const near = names.find((candidate) => isNear(candidate, name));
  return { kind: 'unknown', name, suggestion: near === undefined ? '' : `Did you mean '${near}'?\n` };
}

/** One letter wrong, missing, too many, or two swapped. */
function isNear(a: string, b: string): boolean {
  if (Math.abs(a.length - b.length) > 1) return false;
  let start = 0;
  while (start < a.length && a[start] === b[start]) start += 1;
  const [restA, restB] = [a.slice(start), b.slice(start)];
  const swapped = restA[0] === restB[1] && restA[1] === restB[0] && restA.slice(2) === restB.slice(2);
  return restA.slice(1) === restB.slice(1) || restA.slice(1) === restB || restA === restB.slice(1) || swapped;
}
