import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { expect } from 'chai';
import { residentBytes } from '../../../src/sys/processes.ts';
import { type HrunHost, newHrunHost } from '../../helpers/hrunHost.ts';
import { report } from '../../helpers/report.ts';

/** `make soak` sets it. */
const cycles = Number(process.env.HRUN_SOAK_CYCLES ?? 20);
const samples = 20;
const mebibyte = 2 ** 20;
/** What the daemon may grow by over a whole run, however long: garbage that is not collected yet. */
const allowedBytes = 24 * mebibyte;

interface Sample {
  readonly cycle: number;
  readonly residentBytes: number;
  readonly descriptors: number;
  readonly diskBytes: number;
}

describe('making, running and removing containers again and again', () => {
  it(`leaves everything as it was, ${cycles} times`, async function () {
    this.timeout(cycles * 60_000 + 120_000);
    await using host = await newHrunHost({ config: { poolReady: 1 } });
    // what is made once is made first: the image, templates, a pool
    for (let first = 0; first < 3; first += 1) await cycle(host, first);
    const seen: Sample[] = [await sampleOf(host, 0)];
    for (let done = 1; done <= cycles; done += 1) {
      await cycle(host, done);
      if (done % Math.max(1, Math.floor(cycles / samples)) === 0) seen.push(await sampleOf(host, done));
    }
    const growth = slopeOf(seen) * cycles;
    await report('soak', 'create, run, exec, delete', {
      cycles,
      failures: 0,
      'MiB in the daemon at the beginning': inMebibytes(seen[0]?.residentBytes ?? 0),
      'MiB at the end': inMebibytes(seen.at(-1)?.residentBytes ?? 0),
      'MiB of growth by the slope': inMebibytes(growth),
      'descriptors more': (seen.at(-1)?.descriptors ?? 0) - (seen[0]?.descriptors ?? 0),
      'KiB of disk more': ((seen.at(-1)?.diskBytes ?? 0) - (seen[0]?.diskBytes ?? 0)) / 1024,
    });
    expect(growth, JSON.stringify(seen)).to.be.lessThan(allowedBytes);
    const descriptors = seen.map((sample) => sample.descriptors);
    expect(Math.max(...descriptors.slice(-5)), String(descriptors)).to.be.at.most(
      Math.max(...descriptors.slice(0, 5)) + 2,
    );
    expect(seen.at(-1)?.diskBytes).to.equal(seen[0]?.diskBytes);
    expect(await host.ok(['ps', '-aq'])).to.equal('');
  });
});

async function cycle(host: HrunHost, number: number): Promise<void> {
  const name = `soak${number}`;
  const { code, stdout, stderr } = await host.hrun([
    ...['run', '--name', name, 'busybox', 'sh', '-c', 'echo $0; exit 3', name],
  ]);
  expect({ code, stdout }, stderr).to.deep.equal({ code: 3, stdout: `${name}\n` });
  await host.ok(['rm', name]);
  if (number % 5 !== 0) return;
  await host.ok(['run', '-d', '--name', name, 'busybox', 'sleep', '1000']);
  expect(await host.ok(['exec', name, 'echo', 'in'])).to.equal('in');
  await host.ok(['rm', '-f', name]);
}

async function sampleOf(host: HrunHost, at: number): Promise<Sample> {
  const pid = await host.daemonPid();
  return {
    cycle: at,
    residentBytes: (await residentBytes(pid)) ?? 0,
    descriptors: (await readdir(`/proc/${pid}/fd`)).length,
    diskBytes: await lastingBytes(host),
  };
}

/** Of what is of containers: not of what is kept on purpose, and bounded elsewhere (images, templates, events, logs). */
async function lastingBytes({ directory }: HrunHost): Promise<number> {
  const names = (await readdir(directory, { recursive: true })).filter(
    (name) => !/^root\/(cache|images|events)|^run\/(hrund|vms|compile)/.test(name),
  );
  const found = await Promise.all(names.map((name) => stat(join(directory, name)).catch(() => undefined)));
  return found.reduce((sum, file) => sum + (file?.isFile() ? file.blocks * 512 : 0), 0);
}

/** Bytes a cycle, by least squares. */
function slopeOf(seen: readonly Sample[]): number {
  const mean = (of: (sample: Sample) => number) =>
    seen.reduce((sum, sample) => sum + of(sample), 0) / seen.length;
  const [x, y] = [mean(({ cycle: at }) => at), mean((sample) => sample.residentBytes)];
  const covariance = mean(({ cycle: at, residentBytes: bytes }) => (at - x) * (bytes - y));
  return covariance / mean(({ cycle: at }) => (at - x) ** 2);
}

function inMebibytes(bytes: number): number {
  return Math.round(bytes / mebibyte);
}
