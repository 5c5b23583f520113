import { spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  chmod,
  copyFile,
  mkdir,
  open,
  readdir,
  readFile,
  readlink,
  truncate,
  writeFile,
} from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { createInterface } from 'node:readline';
import { expect } from 'chai';
import type { AgentConnection } from '../../src/agent/connection.ts';
import { backoff } from '../../src/base/backoff.ts';
import { makeExt4 } from '../../src/image/ext4.ts';
import { identifyProcess, isAlive, residentBytes } from '../../src/sys/processes.ts';
import type { MicroVm, VmRecord } from '../../src/vmm/microVm.ts';
import { chooseAccelerator, type ProbeDeps, probeAccelerator } from '../../src/vmm/qemu/accelerator.ts';
import { adoptMicroVm } from '../../src/vmm/qemu/adopt.ts';
import { bootMicroVm } from '../../src/vmm/qemu/boot.ts';
import { initramfsWith, printForEver, sleepForEver } from '../helpers/cpio.ts';
import { bootTestVm, connectTestAgent, connectWithin, testShape, testVmmDeps } from '../helpers/microvm.ts';
import { temporaryDirectory } from '../helpers/tempDir.ts';

const soon = () => AbortSignal.timeout(60_000);

async function failureOf(promise: Promise<unknown>): Promise<unknown> {
  return promise.then(
    () => expect.fail('it did not fail'),
    (error: unknown) => error,
  );
}

function identityOf({ record }: MicroVm): { pid: number; startTicks: string } {
  return { pid: record.pid, startTicks: record.pidStartTicks };
}

async function personalize({ client }: AgentConnection): Promise<void> {
  const realtimeNs = BigInt(Date.now()) * 1_000_000n;
  const request = { entropy: Buffer.alloc(32, 7), realtimeNs, hostname: 'test', machineId: 'ab'.repeat(16) };
  await client.personalize(request, soon());
}

describe('a microVM', () => {
  it('boots to an agent that answers, and goes without a trace', async () => {
    await using guest = await bootTestVm();
    const { vm, runDir } = guest;
    const connection = await connectTestAgent(vm);
    expect(connection.hello).to.include({ protocol: 1, personalized: false });
    expect(connection.hello.kernelRelease).to.match(/^6\./);
    await personalize(connection);
    expect(await connection.client.hello({ protocol: 1 }, soon())).to.include({ personalized: true });

    await vm.kill();
    expect(await vm.ended).to.deep.equal({ kind: 'killed' });
    await connection.closed;
    await connection[Symbol.asyncDispose]();
    await vm[Symbol.asyncDispose]();
    expect(await isAlive(identityOf(vm))).to.equal(false);
    expect(await readdir(runDir)).to.deep.equal([]);
  });

  it('has a clock finer than the tick', async () => {
    await using guest = await bootTestVm();
    await using connection = await connectTestAgent(guest.vm);
    // a kernel that could not calibrate its counter counts in ticks of 10 ms
    expect(connection.hello.agentStartBoottimeNs % 1_000_000n).not.to.equal(0n);
  });

  it('with a kernel panic is told with the last lines of its console', async () => {
    const parameters = ['rdinit=/nope', 'root=/dev/nope'];
    await using guest = await bootTestVm({ shape: { kernelParameters: parameters } });
    const failure = await failureOf(connectTestAgent(guest.vm));
    expect(failure).to.have.property('code', 'VM_BOOT_FAILED');
    expect(failure).to.have.property('message').that.includes('kernel panic');
    expect(failure).to.have.property('hint').that.includes('Kernel panic - not syncing: VFS');
    expect(await guest.vm.ended).to.deep.equal({ kind: 'guest-panic' });
  });

  it('boots with the least memory it may have', async () => {
    expect(await failureOf(bootTestVm({ shape: { memoryMiB: 51 } }))).to.have.property(
      'code',
      'INVALID_ARGUMENT',
    );
    await using guest = await bootTestVm({ shape: { memoryMiB: 52 } });
    await using _connection = await connectTestAgent(guest.vm);
  });

  it('whose agent never answers names the phase that took too long', async () => {
    await using directory = await temporaryDirectory();
    const initramfsPath = join(directory.path, 'sleep.cpio');
    await writeFile(initramfsPath, initramfsWith(sleepForEver));
    await using guest = await bootTestVm({ shape: { initramfsPath } });
    const failure = await failureOf(connectWithin(guest.vm, 2000));
    expect(failure).to.include({ code: 'TIMEOUT', message: 'waiting for the agent took longer than 2 s' });
  });

  it('that floods its console costs nobody anything', async () => {
    await using directory = await temporaryDirectory();
    const initramfsPath = join(directory.path, 'print.cpio');
    await writeFile(initramfsPath, initramfsWith(printForEver));
    await using guest = await bootTestVm({ shape: { initramfsPath } });
    await failureOf(connectWithin(guest.vm, 3000));
    const early = await residentBytes(guest.vm.record.pid);
    await failureOf(connectWithin(guest.vm, 3000));
    const late = await residentBytes(guest.vm.record.pid);
    expect((late ?? 0) - (early ?? 0)).to.be.lessThan(8 * 1024 * 1024);
    const tail = await guest.vm.consoleTail(soon());
    expect(tail).to.include('this guest never stops to talk');
    expect(tail.length).to.be.within(1000, 64 * 1024);
    expect(tail).not.to.match(/[^\P{C}\n]/u);
  });

  it('whose QEMU is killed is told within a moment', async () => {
    await using guest = await bootTestVm();
    const connection = await connectTestAgent(guest.vm);
    process.kill(guest.vm.record.pid, 'SIGKILL');
    const end = await guest.vm.ended;
    expect(end).to.deep.equal({ kind: 'vmm-died', detail: 'QEMU was ended by SIGKILL' });
    await connection.closed;
    expect(await failureOf(connection.client.hello({ protocol: 1 }, soon()))).to.have.property(
      'code',
      'AGENT_UNREACHABLE',
    );
    await connection[Symbol.asyncDispose]();
  });

  it('gives its agent to the newest connection', async () => {
    await using guest = await bootTestVm();
    await using first = await connectTestAgent(guest.vm);
    await using second = await connectTestAgent(guest.vm);
    await first.closed;
    expect(second.hello.bootId).to.equal(first.hello.bootId);
  });

  it('is not started from a kernel that is missing or none', async () => {
    const missing = bootTestVm({ shape: { kernelPath: '/nope/vmlinux' } });
    const failure = await failureOf(missing);
    expect(failure).to.have.property('code', 'QEMU_FAILED');
    expect(failure).to.have.property('message').that.includes('/nope/vmlinux');
    await using directory = await temporaryDirectory();
    const request = { id: '0'.repeat(32), runDir: directory.path, shape: testShape };
    const noQemu = bootMicroVm(
      request as never,
      { ...(await testVmmDeps()), qemuPath: '/nope/qemu' },
      soon(),
    );
    expect(await failureOf(noQemu)).to.have.property('code', 'QEMU_MISSING');
    expect(await readdir(directory.path)).to.deep.equal([]);
  });

  it('that is given up while starting leaves nothing', async () => {
    await using directory = await temporaryDirectory();
    const stop = new AbortController();
    const deps = await testVmmDeps();
    const request = { id: 'f'.repeat(32), runDir: directory.path, shape: testShape };
    const booting = failureOf(bootMicroVm(request as never, deps, stop.signal));
    stop.abort(new Error('enough'));
    expect(await booting).to.have.property('message', 'enough');
    expect(await readdir(directory.path)).to.deep.equal([]);
  });
});

describe('disks of a microVM', () => {
  it('come and go while it runs', async () => {
    await using directory = await temporaryDirectory();
    const source = join(directory.path, 'a,b "layers".tar');
    const target = join(directory.path, 'target.ext4');
    await writeFile(source, tarOf('hello.txt', 'hello from a plugged disk\n'));
    await makeExt4(target, { sizeBytes: 64 * 1024 * 1024, label: 'target' }, soon());
    await using guest = await bootTestVm();
    await using connection = await connectTestAgent(guest.vm);
    await personalize(connection);
    const { vm } = guest;
    const layers = { serial: 'layers', path: source, readonly: true };

    for (let round = 0; round < 3; round += 1) {
      await vm.plugDisk(layers, soon());
      await vm.unplugDisk('layers', soon());
    }
    await vm.plugDisk(layers, soon());
    expect(await failureOf(vm.plugDisk(layers, soon()))).to.have.property('code', 'QEMU_FAILED');
    await vm.plugDisk({ serial: 'target', path: target, readonly: false }, soon());
    const request = {
      sourceSerial: 'layers',
      targetSerial: 'target',
      layers: [{ offset: 0n, length: 2048n, digest: 'sha256:x' }],
      maxEntriesPerLayer: 10n,
    };
    let done = false;
    for await (const progress of connection.client.unpackLayers(request, soon())) done ||= progress.done;
    expect(done).to.equal(true);
    await vm.unplugDisk('target', soon());
    await vm.unplugDisk('layers', soon());

    expect(await readFile(target)).to.satisfy((disk: Buffer) => disk.includes('hello from a plugged disk'));
    expect(await openDescriptors(vm.record.pid, directory.path)).to.deep.equal([]);
    expect(await failureOf(vm.unplugDisk('layers', soon()))).to.have.property('code', 'NOT_FOUND');
  });

  it('that cannot be opened are refused, and leave their name free', async () => {
    await using directory = await temporaryDirectory();
    const path = join(directory.path, 'disk');
    await using guest = await bootTestVm();
    const disk = { serial: 'late', path, readonly: true };
    const failure = await failureOf(guest.vm.plugDisk(disk, soon()));
    expect(failure).to.have.property('code', 'QEMU_FAILED');
    expect(failure).to.have.property('message').that.includes('no such file');
    await writeFile(path, '');
    await truncate(path, 1024 * 1024);
    await guest.vm.plugDisk(disk, soon());
  });

  it('are not written by two microVMs at once', async () => {
    await using directory = await temporaryDirectory();
    const path = join(directory.path, 'scratch');
    await using file = await open(path, 'w');
    await file.truncate(1024 * 1024);
    const scratchDisk = { serial: 'scratch', path, readonly: false };
    await using _first = await bootTestVm({ scratchDisk });
    const failure = await failureOf(bootTestVm({ scratchDisk }));
    expect(failure).to.have.property('code', 'QEMU_FAILED');
    expect(failure).to.have.property('message').that.includes('lock');
  });
});

describe('a microVM with a share', () => {
  it('sees the directory that its server shows', async () => {
    await using directory = await temporaryDirectory();
    const shown = join(directory.path, 'shown');
    await mkdir(join(shown, 'root'), { recursive: true });
    await copyFile('/usr/bin/busybox', join(shown, 'root/busybox'));
    const socketPath = join(directory.path, 'a,b.sock');
    const server = spawn(
      '/usr/lib/qemu/virtiofsd',
      [`--socket-path=${socketPath}`, '-o', `source=${shown}`],
      {
        stdio: 'ignore',
      },
    );
    const ended = once(server, 'exit');
    for (const pauses = backoff(1, 50); !(await readdir(directory.path)).includes('a,b.sock'); ) {
      await pauses.pause(soon());
    }
    {
      await using guest = await bootTestVm({ share: { tag: 'share', socketPath } });
      await using connection = await connectTestAgent(guest.vm);
      await personalize(connection);
      const request = {
        containerId: 'c',
        rootfs: { case: 'share' as const, value: { tag: 'share', path: 'root' } },
        process: { args: ['/busybox', 'true'], cwd: '/' },
      };
      const { guestPid } = await connection.client.createContainer(request, soon());
      expect(guestPid).to.be.greaterThan(1);
    }
    // the server goes with its only client
    await ended;
  });
});

describe('a microVM whose host process dies', () => {
  interface Doomed {
    readonly record: VmRecord;
    kill(): Promise<void>;
  }

  async function startDoomed(...arguments_: readonly string[]): Promise<Doomed> {
    const script = resolve(import.meta.dirname, '../helpers/doomedHost.ts');
    const child = spawn(process.execPath, [script, ...arguments_], { stdio: ['ignore', 'pipe', 'inherit'] });
    const exited = once(child, 'exit');
    const [line] = await once(createInterface(child.stdout), 'line');
    return {
      record: JSON.parse(line),
      kill: async () => {
        child.kill('SIGKILL');
        await exited;
      },
    };
  }

  it('goes on, and talks to the next one, wherever the first one stopped', async () => {
    await using directory = await temporaryDirectory();
    const doomed = await startDoomed(directory.path, 'flood');
    await doomed.kill();
    await using vm = await adoptMicroVm(doomed.record, await testVmmDeps(), soon());
    const { bootId } = await firstHello(vm);
    // each connection is cut off in the middle of what it sends
    for (let round = 0; round < 10; round += 1) {
      const connection = await connectTestAgent(vm);
      expect(connection.hello.bootId).to.equal(bootId);
      const files = [{ destination: '/x', content: new Uint8Array(900_000), mode: 0o644 }];
      const cut = failureOf(connection.client.createContainer({ containerId: 'none', files }, soon()));
      await new Promise(setImmediate);
      (await vm.dial(soon())).destroy();
      await cut;
      await connection[Symbol.asyncDispose]();
    }
    await using last = await connectTestAgent(vm);
    await personalize(last);
  });

  it('and that reset meanwhile is told by the one that finds it', async () => {
    await using directory = await temporaryDirectory();
    const initramfsPath = join(directory.path, 'broken.cpio');
    await writeFile(initramfsPath, initramfsWith(Uint8Array.of(0x0f, 0x0b))); // ud2
    const runDir = join(directory.path, 'vm');
    await mkdir(runDir, { mode: 0o700 });
    const doomed = await startDoomed(runDir, 'watch', initramfsPath);
    await doomed.kill();
    await using vm = await adoptMicroVm(doomed.record, await testVmmDeps(), soon());
    expect(await vm.ended).to.deep.equal({ kind: 'guest-panic' });
    expect(await vm.consoleTail(soon())).to.include('Attempted to kill init');
  });

  it('is not mistaken for another process with its pid', async () => {
    const deps = await testVmmDeps();
    await using guest = await bootTestVm();
    const { record } = guest.vm;
    const other = await failureOf(adoptMicroVm({ ...record, pidStartTicks: '1' }, deps, soon()));
    expect(other).to.have.property('code', 'VM_DIED');
    await guest.vm.kill();
    expect(await failureOf(adoptMicroVm(record, deps, soon()))).to.have.property('code', 'VM_DIED');
  });

  async function firstHello(vm: MicroVm): Promise<{ bootId: string }> {
    await using connection = await connectTestAgent(vm);
    return connection.hello;
  }
});

describe('the accelerator probe', () => {
  async function probeDeps(directory: string, wrapper: string): Promise<ProbeDeps> {
    const { qemuPath, jail, log } = await testVmmDeps();
    const path = join(directory, 'qemu');
    await writeFile(path, `#!/bin/bash\n${wrapper.replaceAll('QEMU', qemuPath)}\n`);
    await chmod(path, 0o755);
    // the user of the jail has to find it
    await chmod(directory, 0o755);
    const { kernelPath, initramfsPath } = testShape;
    return {
      qemuPath: path,
      // a script needs more than QEMU: the host's files
      jail: { ...jail, allowed: ['root'] },
      log,
      kernelPath,
      initramfsPath,
      cachePath: join(directory, 'c/accel'),
      runDir: directory,
    };
  }

  // plays a host on which KVM works, by software
  const working = `args=(); for a; do
    case $a in kvm) a=tcg;; host) a=max;; microvm,*) a=microvm,acpi=off,x-option-roms=off;; esac; args+=("$a"); done`;

  before(async function () {
    const kvm = await open('/dev/kvm', 'r+').catch(() => undefined);
    await kvm?.close();
    // without the device nothing is started at all
    if (kvm === undefined) this.skip();
  });

  it('believes a guest that boots, and remembers it', async () => {
    await using directory = await temporaryDirectory();
    const deps = await probeDeps(directory.path, `${working}; exec QEMU "\${args[@]}"`);
    expect(await probeAccelerator(deps, soon())).to.deep.equal({ accelerator: 'kvm' });
    await writeFile(join(directory.path, 'started'), '');
    expect(await chooseAccelerator('kvm', deps, soon())).to.equal('kvm');
    expect((await readdir(directory.path)).sort()).to.deep.equal(['c', 'qemu', 'started']);
  });

  it('gives up a guest that does not get on, and says so', async () => {
    await using directory = await temporaryDirectory();
    const deps = await probeDeps(directory.path, `${working}; exec QEMU "\${args[@]}" -S`);
    const verdict = await probeAccelerator(deps, soon());
    expect(verdict.accelerator).to.equal('tcg');
    expect(verdict.reason).to.equal('/dev/kvm is there, but no guest booted in 3 s');
    expect(await chooseAccelerator('auto', deps, soon())).to.equal('tcg');
    const demanded = await failureOf(chooseAccelerator('kvm', deps, soon()));
    expect(demanded).to.have.property('code', 'KVM_UNAVAILABLE');
    expect((await readdir(directory.path)).sort()).to.deep.equal(['c', 'qemu']);
  });

  it('tells why QEMU does not start with KVM', async () => {
    await using directory = await temporaryDirectory();
    const deps = await probeDeps(directory.path, 'echo "qemu: failed to set MSR 0x10a" >&2; exit 3');
    const { accelerator, reason } = await probeAccelerator(deps, soon());
    expect(accelerator).to.equal('tcg');
    expect(reason).to.include('ended with code 3').and.include('MSR 0x10a');
    expect(await chooseAccelerator('tcg', deps, soon())).to.equal('tcg');
  });
});

/** A tar of one file, as a layer. */
function tarOf(name: string, content: string): Buffer {
  const header = Buffer.alloc(512);
  const octal = (value: number, length: number) => `${value.toString(8).padStart(length - 1, '0')}\0`;
  header.write(name, 0);
  header.write(octal(0o644, 8) + octal(0, 8) + octal(0, 8) + octal(content.length, 12) + octal(0, 12), 100);
  header.write('        0', 148);
  header.write('ustar\x0000', 257);
  header.write(
    `${header
      .reduce((sum, byte) => sum + byte, 0)
      .toString(8)
      .padStart(6, '0')}\0 `,
    148,
  );
  const body = Buffer.alloc(512);
  body.write(content);
  return Buffer.concat([header, body, Buffer.alloc(1024)]);
}

/** Files below `directory` that the process has open. */
async function openDescriptors(pid: number, directory: string): Promise<string[]> {
  const maps = await readdir(`/proc/${pid}/fd`);
  const targets = await Promise.all(maps.map((fd) => readlink(`/proc/${pid}/fd/${fd}`).catch(() => '')));
  expect(await identifyProcess(pid)).not.to.equal(undefined);
  return targets.filter((target) => target.startsWith(directory));
}
