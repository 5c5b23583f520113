import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { type NetNamespace, openNetNamespace } from '../../src/sys/netNamespace.ts';

/** A network namespace of its own, with loopback up; it goes on dispose, with all that was made in it. */
export interface TestNetns extends AsyncDisposable {
  readonly netns: NetNamespace;
  /** Of a process that lives in it. */
  readonly pid: number;
  /** Runs a program of this host inside it and gives back its stdout. */
  run(program: string, ...args: readonly string[]): string;
  /** All there is in it: links, addresses, routes, queueing disciplines, firewall. */
  snapshot(): string;
}

export async function newNetns(): Promise<TestNetns> {
  const child = spawn('unshare', ['--net', 'sh', '-c', 'ip link set lo up; echo ready; exec cat'], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  await once(child.stdout, 'data');
  const pid = child.pid ?? 0;
  const netns = openNetNamespace(`/proc/${pid}/ns/net`);
  const run = (program: string, ...args: readonly string[]) =>
    netns.run(() => execFileSync(program, args, { encoding: 'utf8' }));
  return {
    netns,
    pid,
    run,
    snapshot: () =>
      [
        run('ip', '-o', 'link'),
        run('ip', '-o', 'addr'),
        run('ip', 'route', 'show', 'table', 'all'),
        run('ip', '-6', 'route', 'show', 'table', 'all'),
        run('tc', 'qdisc'),
        run('nft', 'list', 'ruleset'),
        run('sh', '-c', 'cat /proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv6/conf/all/forwarding'),
      ]
        .join('\n')
        // link-local addresses come and go by themselves
        .replaceAll(/^.*(fe80::|multicast ff00::).*\n/gm, '')
        // states that change by themselves, as counters and life times do
        .replaceAll(
          / (state \w+|tentative|linkdown|expires \w+|valid_lft \w+|preferred_lft \w+)|NO-CARRIER,/g,
          '',
        ),
    [Symbol.asyncDispose]: async () => {
      netns[Symbol.dispose]();
      const closed = once(child, 'close');
      child.stdin.end();
      await closed;
    },
  };
}
