import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { buffer } from 'node:stream/consumers';
import { errnoOf, HrunError } from '../base/errors.ts';
import { printable } from '../base/text.ts';
import { createMemfd } from '../sys/memfd.ts';
import type { NetNamespace } from '../sys/netNamespace.ts';

/** One command of libnftables-json(5): `{ add: { rule: … } }`. */
export type NftCommand = Readonly<Record<string, object>>;

const limitMs = 20_000;
export const nftEnvironment = {
  PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
  LC_ALL: 'C',
} as const;

/**
 * Carries out commands in a namespace, all of them or, when it fails, none.
 * @throws HrunError NETWORK_FAILED with nft's own words, or when nft is not installed
 */
export async function runNft(netns: NetNamespace, commands: readonly NftCommand[]): Promise<void> {
  await nft(netns, ['-j', '-f', '-'], JSON.stringify({ nftables: commands }));
}

/** The answer to a `list` of nft, parsed; undefined when what is listed is not there. */
export async function listNft(netns: NetNamespace, what: readonly string[]): Promise<unknown> {
  try {
    return JSON.parse(await nft(netns, ['-j', 'list', ...what], ''));
  } catch (error) {
    if (error instanceof HrunError && error.message.includes('No such file or directory')) return undefined;
    throw error;
  }
}

async function nft(netns: NetNamespace, arguments_: readonly string[], input: string): Promise<string> {
  // a pipe of node's is a socket, which nft could not open again as its stdin
  using stdin = createMemfd('nft');
  writeFileSync(stdin.fd, input);
  const child = netns.run(() =>
    spawn('nft', arguments_, {
      cwd: '/',
      env: nftEnvironment,
      stdio: [stdin.fd, 'pipe', 'pipe'],
      timeout: limitMs,
      killSignal: 'SIGKILL',
    }),
  );
  const closed = once(child, 'close');
  try {
    const said = (stream: typeof child.stdout) => (stream === null ? Buffer.alloc(0) : buffer(stream));
    const [stdout, stderr] = await Promise.all([said(child.stdout), said(child.stderr), closed]);
    if (child.exitCode === 0) return stdout.toString('utf8');
    throw new HrunError('NETWORK_FAILED', `nft refused the rules: ${firstLine(stderr)}`);
  } catch (cause) {
    if (cause instanceof HrunError) throw cause;
    const missing = errnoOf(cause) === 'ENOENT';
    throw new HrunError('NETWORK_FAILED', missing ? 'nft is not installed' : 'nft could not be run', {
      cause,
      hint: 'apt-get install nftables, or use --network none',
    });
  }
}

function firstLine(text: Buffer): string {
  const line = text.toString('utf8').split('\n', 1)[0] ?? '';
  return printable(line.replace(/^\S+: Error: /, ''), 500);
}
