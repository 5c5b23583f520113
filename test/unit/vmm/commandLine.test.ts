import { expect } from 'chai';
import fc from 'fast-check';
import { parseVmId } from '../../../src/base/ids.ts';
import type { VmRequest, VmShape } from '../../../src/vmm/microVm.ts';
import { mostNicSlots } from '../../../src/vmm/nicSlots.ts';
import { qemuArguments, type VmWiring } from '../../../src/vmm/qemu/commandLine.ts';

const shape: VmShape = {
  kernelPath: '/dist/vmlinux',
  initramfsPath: '/dist/initramfs.cpio',
  accelerator: 'tcg',
  vcpus: 1,
  memoryMiB: 256,
  transport: 'serial',
  kernelParameters: [],
};
const request: VmRequest = { id: parseVmId('0'.repeat(32)), runDir: '/run/hrun/vms/x', shape };
const wiring: VmWiring = {
  controlFd: 3,
  agentFd: 4,
  vsockCid: undefined,
  tscKhz: 2_600_000,
  boot: { kernelFd: 5, initramfsFd: 6 },
  diskFds: { image: 7, scratch: 8 },
  shareFd: 9,
};
const image = { serial: 'image', path: '/i.raw', readonly: true };
const scratch = { serial: 'scratch', path: '/s.raw', readonly: false };

function build(change: Partial<VmRequest> = {}, wired: Partial<VmWiring> = {}): string[] {
  return qemuArguments({ ...request, ...change }, { ...wiring, ...wired });
}

function valuesOf(arguments_: readonly string[], option: string): string[] {
  return arguments_.filter((_, index) => arguments_[index - 1] === option);
}

function devices(arguments_: readonly string[]): Record<string, unknown>[] {
  return valuesOf(arguments_, '-device').map((text) => JSON.parse(text));
}

function drivers(arguments_: readonly string[]): unknown[] {
  return devices(arguments_).map(({ driver }) => driver);
}

const kernelParameters = (arguments_: readonly string[]) =>
  valuesOf(arguments_, '-append')[0]?.split(' ') ?? [];

describe('the command line of QEMU', () => {
  it('keeps what QEMU would add by itself out', () => {
    const line = build();
    expect(line).to.include.members(['-nodefaults', '-no-user-config', '-no-reboot', '-sandbox']);
    expect(line.join(' ')).not.to.match(/exec:|scsi=on|\bfile:/);
  });

  it('has its slots in one fixed order and never more than eight transports', () => {
    const share = { tag: 'share', socketPath: '/run/fs.sock' };
    const full = build({ imageDisk: image, scratchDisk: scratch, share });
    const transports = drivers(full).filter((driver) => driver !== 'virtserialport');
    expect(transports).to.deep.equal([
      'virtio-serial-device',
      'virtio-net-device',
      'virtio-blk-device',
      'virtio-blk-device',
      'virtio-scsi-device',
      'vhost-user-fs-device',
      'virtio-rng-device',
      'virtio-balloon-device',
    ]);
    const count = (line: readonly string[]) =>
      drivers(line).filter((driver) => driver !== 'virtserialport').length;
    const counts = [
      count(full),
      count(build({ imageDisk: image, scratchDisk: scratch })),
      count(build({ nicSlots: mostNicSlots(false) })),
      count(build({ nicSlots: mostNicSlots(true), share })),
    ];
    expect(counts).to.deep.equal([8, 8, 8, 8]);
    const bare = drivers(build({ share }));
    expect(drivers(full).filter((driver) => bare.includes(driver))).to.deep.equal(bare);
  });

  it('gives a guest that must have shared memory just that', () => {
    const share = { tag: 'share', socketPath: '/run/a,b.sock' };
    const line = build({ share });
    const memory = valuesOf(line, '-object')
      .map((text) => JSON.parse(text))
      .find(({ id }) => id === 'ram');
    expect(memory).to.deep.equal({
      'qom-type': 'memory-backend-memfd',
      id: 'ram',
      size: 256 * 1024 * 1024,
      share: true,
    });
    expect(valuesOf(line, '-M')[0]).to.include('memory-backend=ram');
    expect(valuesOf(line, '-chardev')).to.include('socket,id=share,fd=9');
    expect(valuesOf(build(), '-M')[0]).not.to.include('memory-backend');
  });

  it('names no file of the host, whatever it is called', () => {
    fc.assert(
      fc.property(fc.string(), (text) => {
        const path = `/host/,"'\\ file:ä\n${text}`;
        const line = build({
          shape: { ...shape, kernelPath: path, initramfsPath: path },
          runDir: path,
          imageDisk: { ...image, path },
          scratchDisk: { ...scratch, path },
          share: { tag: 'share', socketPath: path },
        });
        expect(line.join('\n')).not.to.include('/host/');
      }),
    );
  });

  it('has kernel, initramfs and disks by descriptors that it inherits', () => {
    const line = build({ imageDisk: image, scratchDisk: scratch });
    expect(valuesOf(line, '-kernel')).to.deep.equal(['/proc/self/fd/5']);
    expect(valuesOf(line, '-initrd')).to.deep.equal(['/proc/self/fd/6']);
    expect(valuesOf(line, '-add-fd')).to.deep.equal(['fd=7,set=7', 'fd=8,set=8']);
    const files = valuesOf(line, '-blockdev').map((text) => JSON.parse(text).file.filename);
    expect(files).to.deep.equal(['/dev/fdset/7', '/dev/fdset/8']);
  });

  it('lets the guest see errors of the host disk, discard on scratch and not write to the image', () => {
    const line = build({ imageDisk: image, scratchDisk: scratch });
    const blocks = devices(line).filter(({ driver }) => driver === 'virtio-blk-device');
    for (const block of blocks) expect(block).to.include({ werror: 'report', rerror: 'report' });
    expect(blocks.map(({ serial }) => serial)).to.deep.equal(['image', 'scratch']);
    const [imageNode, scratchNode] = valuesOf(line, '-blockdev').map((text) => JSON.parse(text));
    expect(imageNode).to.include({ 'read-only': true });
    expect(imageNode.file).to.include({ 'read-only': true });
    expect(scratchNode).to.include({ 'read-only': false, discard: 'unmap' });
    expect(scratchNode.file).to.include({ discard: 'unmap' });
  });

  it('refuses a disk in the wrong slot and a serial number that does not fit', () => {
    expect(() => build({ imageDisk: scratch })).to.throw('no writable disk');
    expect(() => build({ scratchDisk: image })).to.throw('no read-only disk');
    for (const serial of ['', 'x'.repeat(21), 'a,b', 'A', 'a b']) {
      expect(() => build({ imageDisk: { ...image, serial } }), serial).to.throw('serial number');
    }
  });

  it('refuses kernel parameters that would become several, and sizes that are none', () => {
    for (const parameter of ['a b', '', 'a\nb', 'a\u00a0b']) {
      const bad = { ...shape, kernelParameters: [parameter] };
      expect(() => build({ shape: bad }), JSON.stringify(parameter)).to.throw('kernel parameter');
    }
    expect(() => build({ shape: { ...shape, vcpus: 0 } })).to.throw('vcpus');
    expect(() => build({ shape: { ...shape, memoryMiB: 64.5 } })).to.throw('memoryMiB');
    expect(() => build({ shape: { ...shape, memoryMiB: 16 } })).to.throw('too small');
  });

  it('keeps the timers a TCG guest needs, and tells it the frequency it cannot measure', () => {
    const tcg = build();
    expect(valuesOf(tcg, '-M')[0]).to.include('pit=on,pic=on,rtc=on');
    expect(valuesOf(tcg, '-cpu')[0]).to.match(/^max\b/);
    expect(kernelParameters(tcg)).to.include('tsc_early_khz=2600000');
    expect(kernelParameters(build({}, { tscKhz: undefined })).join()).not.to.include('tsc_early');
    const kvm = build({ shape: { ...shape, accelerator: 'kvm' } });
    expect(valuesOf(kvm, '-M')[0]).to.include('pit=off,pic=off,rtc=off');
    expect(valuesOf(kvm, '-cpu')).to.deep.equal(['host']);
    expect(kernelParameters(kvm).join()).not.to.include('tsc_early');
  });

  it('ends on a reset and a panic, but leaves the console readable', () => {
    const line = build({ shape: { ...shape, kernelParameters: ['hrun.ready=console'] } });
    expect(valuesOf(line, '-action')).to.deep.equal(['reboot=shutdown,shutdown=pause']);
    expect(valuesOf(line, '-chardev')).to.include('ringbuf,id=console,size=65536');
    expect(kernelParameters(line)).to.include.members(['panic=-1', 'reboot=t', 'hrun.ready=console']);
  });

  it('reaches the agent over vsock when asked to, and then has no serial port', () => {
    const line = build(
      { shape: { ...shape, transport: 'vsock' } },
      { agentFd: undefined, vsockCid: 4711, vhostFd: 10 },
    );
    expect(devices(line)[0]).to.deep.equal({
      driver: 'vhost-vsock-device',
      id: 'agent0',
      'guest-cid': 4711,
      vhostfd: '10',
    });
    expect(drivers(line)).not.to.include('virtio-serial-device');
    expect(kernelParameters(line)).to.include('hrun.transport=vsock');
  });
});
