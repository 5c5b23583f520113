import { readFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { libc } from './libc.ts';

// rdtsc; shl rdx, 32; or rax, rdx; ret
const readCounter = Uint8Array.of(0x0f, 0x31, 0x48, 0xc1, 0xe2, 0x20, 0x48, 0x09, 0xd0, 0xc3);
const intervalMs = 20;
const attempts = 32;

let measured: Promise<number | undefined> | undefined;

/**
 * Frequency of this host's time stamp counter, kHz; undefined when it has none that is constant, or this process may
 * not run code it made. Measured once, in 20 ms, to a few parts per million.
 */
export function tscKhz(): Promise<number | undefined> {
  measured ??= measure();
  return measured;
}

async function measure(): Promise<number | undefined> {
  if (process.arch !== 'x64' || !(await isConstant())) return undefined;
  const counter = libc().machineCode(readCounter);
  if (counter === undefined) return undefined;
  const first = sample(counter);
  await sleep(intervalMs);
  const second = sample(counter);
  return Math.round((Number(second.ticks - first.ticks) * 1e6) / Number(second.timeNs - first.timeNs));
}

async function isConstant(): Promise<boolean> {
  const flags = /^flags\s*:(.*)$/m.exec(await readFile('/proc/cpuinfo', 'utf8'))?.[1]?.split(' ') ?? [];
  return flags.includes('constant_tsc') && flags.includes('nonstop_tsc');
}

/** Both clocks at one moment: of several attempts the one that was interrupted least. */
function sample(counter: () => bigint): { readonly ticks: bigint; readonly timeNs: bigint } {
  let best = { ticks: 0n, timeNs: 0n, widthNs: -1n };
  for (let attempt = 0; attempt < attempts; attempt += 1) {
    const before = process.hrtime.bigint();
    const ticks = counter();
    const widthNs = process.hrtime.bigint() - before;
    if (best.widthNs < 0n || widthNs < best.widthNs) best = { ticks, timeNs: before + widthNs / 2n, widthNs };
  }
  return best;
}
