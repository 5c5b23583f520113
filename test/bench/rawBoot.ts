import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { rm } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import type { Bench } from './bench.ts';

const dist = resolve(import.meta.dirname, '../../dist');
const readyLine = 'hrun-agent ready';

/**
 * From the spawn of plain QEMU to the line in which the agent says that it is ready: the same kernel and initramfs as hrun
 * boots, the device that an agent needs, and nothing else. What any launch by booting costs at least.
 * @returns milliseconds
 */
export async function rawBootMs({ host, accelerator }: Bench): Promise<number> {
  const socket = join(host.directory, 'bench.sock');
  const fast = accelerator === 'kvm';
  const machine = 'microvm,acpi=off,x-option-roms=off,auto-kernel-cmdline=on,rtc=on';
  const kernel = 'console=ttyS0 quiet panic=-1 reboot=t mitigations=off hrun.ready=console';
  const started = performance.now();
  const child = spawn(
    'qemu-system-x86_64',
    [
      ...['-M', fast ? machine : `${machine},pit=on,pic=on`],
      ...(fast ? ['-accel', 'kvm', '-cpu', 'host'] : ['-accel', 'tcg', '-cpu', 'max,erms=off']),
      ...['-m', '576M', '-smp', '1', '-nodefaults', '-no-user-config', '-display', 'none', '-no-reboot'],
      ...['-serial', 'stdio', '-global', 'virtio-mmio.force-legacy=false'],
      ...['-device', 'virtio-serial-device,max_ports=2'],
      ...['-chardev', `socket,id=agent,path=${socket},server=on,wait=off`],
      ...['-device', 'virtserialport,chardev=agent,name=hrun.agent'],
      ...['-kernel', join(dist, 'guest/vmlinux'), '-initrd', join(dist, 'guest/initramfs.cpio')],
      ...['-append', fast ? kernel : `${kernel} no_timer_check noreplace-smp lapic_timer_khz=1000000`],
    ],
    { stdio: ['ignore', 'pipe', 'inherit'] },
  );
  let text = '';
  for await (const chunk of child.stdout) {
    text += chunk;
    if (text.includes(readyLine)) break;
  }
  const elapsedMs = performance.now() - started;
  child.kill('SIGKILL');
  if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
  await rm(socket, { force: true });
  if (!text.includes(readyLine)) throw new Error(`the guest did not get ready: ${text.slice(-500)}`);
  return elapsedMs;
}
