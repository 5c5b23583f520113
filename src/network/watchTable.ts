import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import type { Log } from '../base/log.ts';
import type { NetNamespace } from '../sys/netNamespace.ts';
import { listNft, nftEnvironment } from './nft.ts';

export interface WatchDeps {
  /** Name of our table of the family inet. */
  readonly table: string;
  readonly log: Pick<Log, 'debug' | 'warn'>;
}

/**
 * Calls `gone` whenever somebody else, such as a firewall that loads its rules anew, has removed our table. It is told by
 * the kernel (nft(8), MONITOR) for as long as this is not disposed of.
 */
export function watchTable(
  netns: NetNamespace,
  { table, log }: WatchDeps,
  gone: () => Promise<void>,
): Disposable {
  const monitor = netns.run(() =>
    // it would notice the end of a daemon that is killed only with the next event
    spawn('setpriv', ['--pdeathsig', 'KILL', 'nft', '-j', 'monitor', 'destroy', 'tables'], {
      cwd: '/',
      env: nftEnvironment,
      stdio: ['ignore', 'pipe', 'ignore'],
    }),
  );
  monitor.on('error', (error) => log.warn({ err: error }, 'removals of firewall rules are not noticed'));
  monitor.once('exit', (code) => {
    if (code !== null) log.warn({ code }, 'removals of firewall rules are not noticed any more');
  });
  const lines = createInterface({ input: monitor.stdout });
  let looking = Promise.resolve();
  lines.on('line', (line) => {
    if (!line.includes('"delete"')) return;
    // our own changes delete and add in one transaction: what counts is whether it is there
    looking = looking
      .then(async () => {
        if ((await listNft(netns, ['table', 'inet', table])) !== undefined) return;
        log.debug({ table }, 'somebody removed the rules of networks');
        await gone();
      })
      .catch((error: unknown) => log.warn({ err: error }, 'the rules of networks could not be put right'));
  });
  return {
    [Symbol.dispose]: () => {
      lines.close();
      monitor.kill('SIGKILL');
    },
  };
}
