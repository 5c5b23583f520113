import { once } from 'node:events';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { hrunPath } from '../../helpers/hrunHost.ts';
import { alternate, type Bench, type Group, timed } from '../bench.ts';
import { cpuMs, memoryOf, wallMs } from '../processes.ts';

const idleWatchMs = 5_000;

export const commandCases = { ps: 'hrun ps', version: 'hrun version', runcList: 'runc list' } as const;

/** Commands that start nothing, and the processes that serve them. */
export const commands: Group = {
  name: 'command',
  about: 'commands that start nothing; the daemon at rest',
  async run(bench) {
    const { host, record } = bench;
    const group = commands.name;
    await host.ok(['run', '-d', '--name', 'bench', 'busybox', 'sleep', '100000']);
    const argvs = {
      [commandCases.version]: [hrunPath, 'version'],
      [commandCases.ps]: [hrunPath, 'ps'],
      [commandCases.runcList]: ['runc', '--root', join(host.directory, 'runc'), 'list'],
    };
    const cases = Object.entries(argvs).map(([name, argv]) => ({
      name,
      sample: () => wallMs(argv, host.directory, host.env),
    }));
    await alternate(group, cases, bench);
    const frontDoor = await frontDoorMemory(bench);
    record.add(group, 'front door, RSS', frontDoor.rssMiB, 'MiB');
    record.add(group, 'front door, private', frontDoor.privateMiB, 'MiB');
    await host.ok(['rm', '-f', 'bench']);
    await alternate(
      group,
      [{ name: 'first command without a daemon', sample: () => firstCommandMs(bench) }],
      bench,
    );
    await host.ok(['run', '--rm', 'busybox', 'true']);
    const pid = await host.daemonPid();
    record.add(group, 'daemon, RSS', (await memoryOf(pid)).rssMiB, 'MiB');
    const before = (await cpuMs(pid)).own;
    await sleep(idleWatchMs);
    record.add(group, 'daemon, idle CPU', (((await cpuMs(pid)).own - before) / idleWatchMs) * 100, '%');
  },
};

async function firstCommandMs({ host }: Bench): Promise<number> {
  await host.ok(['daemon', 'stop']);
  return await timed(() => host.ok(['ps']));
}

/** Of a command that waits. */
async function frontDoorMemory({ host }: Bench): Promise<Awaited<ReturnType<typeof memoryOf>>> {
  const child = host.start(['logs', '-f', 'bench'], { stdio: 'ignore' });
  try {
    await host.ok(['exec', 'bench', 'true']);
    return await memoryOf(child.pid ?? 0);
  } finally {
    child.kill('SIGKILL');
    if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
  }
}
