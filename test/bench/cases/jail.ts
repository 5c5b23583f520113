import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join, resolve } from 'node:path';
import { findDist } from '../../../src/base/paths.ts';
import { startJailed } from '../../../src/vmm/jail/launch.ts';
import { prepareTree } from '../../../src/vmm/jail/tree.ts';
import { findQemu } from '../../../src/vmm/qemu/findQemu.ts';
import { alternate, type Group, timed } from '../bench.ts';

const dist = resolve(import.meta.dirname, '../../../dist/libexec');
const limitMs = 60_000;

const jailCases = { plain: 'QEMU --version', jailed: 'QEMU --version, jailed' } as const;

/** What the jail costs a launch: QEMU that only tells its version, from the spawn to its end. */
export const jail: Group = {
  name: 'jail',
  about: 'QEMU that only tells its version, with and without its jail',
  async run(bench) {
    const { launcherPath, preloadPath } = await findDist(dist);
    const qemuPath = await findQemu(undefined, process.env.PATH ?? '');
    const treesDir = join(bench.host.directory, 'jail');
    const policy = {
      launcherPath,
      treesDir,
      uids: { first: 2_000_000_000, count: 65_536 },
      fileBytes: 0,
      owner: bench.host.run,
      allowed: [],
    };
    const tree = await prepareTree({ qemuPath, preloadPath, treesDir }, AbortSignal.timeout(limitMs));
    const command = {
      tree: tree.root,
      program: tree.program,
      arguments: ['--version'],
      descriptors: [],
      environment: {},
      devices: ['/dev/null'],
      cgroups: [],
      fileBytes: 0,
    };
    const jailed = async () => await (await startJailed(command, policy)).exited;
    const plain = async () =>
      await once(spawn(qemuPath, command.arguments, { detached: true, stdio: 'ignore', env: {} }), 'exit');
    const cases = [
      { name: jailCases.plain, sample: () => timed(plain) },
      { name: jailCases.jailed, sample: () => timed(jailed) },
    ];
    await alternate(jail.name, cases, bench);
  },
};
