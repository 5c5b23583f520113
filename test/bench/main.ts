import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { cpus, release, totalmem } from 'node:os';
import { join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { hrunPath, newHrunHost } from '../helpers/hrunHost.ts';

/**
 * `make bench`: what the promises about speed rest on. Raw QEMU and hrun take turns, so that a busy host hurts
 * both; raw samples and the table go to bench-results/.
 */
const rounds = Number(process.env.ROUNDS ?? 10);
const dist = resolve(import.meta.dirname, '../../dist');
const run = promisify(execFile);

type Samples = Record<string, number[]>;

const host = await newHrunHost();
try {
  const samples: Samples = {};
  await host.ok(['run', '--rm', 'busybox', 'true']);
  for (let round = 0; round < rounds; round++) {
    add(samples, 'raw QEMU, spawn to agent ready', await rawBootMs());
    const started = performance.now();
    await host.ok(['run', '--rm', '--cold', 'busybox', 'true']);
    add(samples, 'hrun run --rm --cold busybox true', performance.now() - started);
  }
  for (const [name, command] of [
    ['hrun version', [hrunPath, 'version']],
    ['hrun ps', [hrunPath, 'ps']],
    ['runc list', ['runc', '--root', join(host.directory, 'runc'), 'list']],
  ] as const) {
    samples[name] = await hyperfine(command);
  }
  await host.ok(['run', '-d', '--name', 'bench', 'busybox', 'sleep', '1000']);
  for (let round = 0; round < rounds; round++) {
    const started = performance.now();
    await host.ok(['exec', 'bench', 'true']);
    add(samples, 'hrun exec bench true', performance.now() - started);
  }
  await host.ok(['rm', '-f', 'bench']);
  await host.ok(['daemon', 'stop']);
  const cold = performance.now();
  await host.ok(['ps']);
  add(samples, 'first command without a daemon', performance.now() - cold);
  const daemon = await daemonAtRest();
  await report(samples, daemon);
} finally {
  await host[Symbol.asyncDispose]();
}

function add(samples: Samples, name: string, value: number): void {
  samples[name] = [...(samples[name] ?? []), value];
}

/** The same kernel and initramfs as hrun boots, with the devices an agent needs and nothing else. */
async function rawBootMs(): Promise<number> {
  const socket = join(host.directory, 'bench.sock');
  const started = performance.now();
  const kernel = 'console=ttyS0 quiet panic=-1 reboot=t no_timer_check noreplace-smp lapic_timer_khz=1000000';
  const child = spawn(
    'qemu-system-x86_64',
    [
      ...['-M', 'microvm,acpi=off,x-option-roms=off,auto-kernel-cmdline=on,pit=on,pic=on,rtc=on'],
      ...['-accel', 'tcg', '-cpu', 'max,erms=off', '-m', '576M', '-smp', '1'],
      ...['-nodefaults', '-no-user-config', '-display', 'none', '-no-reboot', '-serial', 'stdio'],
      ...['-global', 'virtio-mmio.force-legacy=false', '-device', 'virtio-serial-device,max_ports=2'],
      ...['-chardev', `socket,id=agent,path=${socket},server=on,wait=off`],
      ...['-device', 'virtserialport,chardev=agent,name=hrun.agent'],
      ...['-kernel', join(dist, 'guest/vmlinux'), '-initrd', join(dist, 'guest/initramfs.cpio')],
      ...['-append', `${kernel} mitigations=off hrun.ready=console`],
    ],
    { stdio: ['ignore', 'pipe', 'inherit'] },
  );
  let text = '';
  for await (const chunk of child.stdout) {
    text += chunk;
    if (text.includes('hrun-agent ready')) break;
  }
  const elapsed = performance.now() - started;
  child.kill('SIGKILL');
  if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
  if (!text.includes('hrun-agent ready')) throw new Error(`the guest did not get ready: ${text}`);
  return elapsed;
}

async function hyperfine(command: readonly string[]): Promise<number[]> {
  const output = join(host.directory, 'hyperfine.json');
  const options = ['--warmup', '5', '--runs', '50', '--shell=none', '--export-json', output];
  await run('hyperfine', [...options, command.join(' ')], { env: host.env });
  const { results }: { results: { times: number[] }[] } = JSON.parse(await readFile(output, 'utf8'));
  return (results[0]?.times ?? []).map((seconds) => seconds * 1000);
}

async function daemonAtRest(): Promise<{ rssMiB: number; idleCpuPercent: number }> {
  const pid = await host.daemonPid();
  const status = await readFile(`/proc/${pid}/status`, 'utf8');
  const ticks = async () => {
    const fields = (await readFile(`/proc/${pid}/stat`, 'utf8')).split(') ')[1]?.split(' ') ?? [];
    return Number(fields[11]) + Number(fields[12]);
  };
  const before = await ticks();
  await sleep(5_000);
  // USER_HZ is 100: a tick is 10 ms, 500 of them are the five seconds
  const idleCpuPercent = ((await ticks()) - before) / 5;
  return { rssMiB: Number(/^VmRSS:\s+(\d+)/m.exec(status)?.[1]) / 1024, idleCpuPercent };
}

async function report(samples: Samples, daemon: Awaited<ReturnType<typeof daemonAtRest>>): Promise<void> {
  const rows = Object.entries(samples).map(([name, values]) => {
    const sorted = values.toSorted((a, b) => a - b);
    const at = (share: number) =>
      sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? NaN;
    return { name, n: values.length, min: at(0), p50: at(0.5), p99: at(0.99) };
  });
  const p50 = (name: string) => rows.find((row) => row.name === name)?.p50 ?? NaN;
  const ratios = {
    'cold run / raw boot (target 1.3)':
      p50('hrun run --rm --cold busybox true') / p50('raw QEMU, spawn to agent ready'),
    'hrun ps / runc list (target 0.5)': p50('hrun ps') / p50('runc list'),
  };
  const facts = { cpus: cpus().map(({ model }) => model), memoryBytes: totalmem(), kernel: release() };
  const directory = resolve(import.meta.dirname, '../../bench-results');
  await mkdir(directory, { recursive: true });
  const path = join(directory, `${new Date().toISOString().replaceAll(':', '-')}.json`);
  await writeFile(path, JSON.stringify({ facts, rounds, samples, ratios, daemon }, undefined, 2));
  console.table(rows.map(({ name, n, ...ms }) => ({ name, n, ...rounded(ms) })));
  console.table({ ...rounded(ratios), ...rounded(daemon) });
  console.log(`raw samples: ${path}`);
}

function rounded(values: Record<string, number>): Record<string, number> {
  return Object.fromEntries(
    Object.entries(values).map(([name, value]) => [name, Math.round(value * 100) / 100]),
  );
}
