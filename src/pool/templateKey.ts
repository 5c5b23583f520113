import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { pipeline } from 'node:stream/promises';
import { HrunError } from '../base/errors.ts';
import { parseVmId } from '../base/ids.ts';
import type { TemplateScope } from '../base/templateScope.ts';
import type { VmRequest, VmShape } from '../vmm/microVm.ts';
import { qemuArguments } from '../vmm/qemu/commandLine.ts';
import { fileIdentity, qemuVersion } from '../vmm/qemu/findQemu.ts';

/** To be raised when a template of older code must not be used any more and nothing below tells. */
const formatVersion = 1;
const nobody = parseVmId('0'.repeat(32));

/** The request of the machine that a template of `shape` is made of, and its clones. */
export function templateRequest(shape: VmShape, id: VmRequest['id'], runDir: string): VmRequest {
  return { id, runDir, shape, imageDisk: 'empty', scratchDisk: 'empty' };
}

/**
 * Names everything that makes a saved guest invalid when it changes: the emulator, kernel and initramfs by content, the
 * processor, and every argument of the machine, its list of devices among them.
 */
export async function templateKey(
  shape: VmShape,
  scope: TemplateScope,
  qemuPath: string,
  signal: AbortSignal,
): Promise<string> {
  const vsock = shape.transport === 'vsock' ? 0 : undefined;
  const boot = { kernelFd: 0, initramfsFd: 0 };
  const wiring = { controlFd: 0, agentFd: 0, vsockCid: vsock, vhostFd: vsock, boot };
  const machine = qemuArguments(templateRequest(shape, nobody, '/'), { ...wiring, tscKhz: undefined });
  const facts = [
    formatVersion,
    scope.kind === 'tenant' ? `tenant ${scope.name}` : scope.kind,
    machine,
    await fileIdentity(qemuPath),
    await qemuVersion(qemuPath, signal),
    await contentHash(shape.kernelPath),
    await contentHash(shape.initramfsPath),
    // what "-cpu host" stands for, and, for TCG as well, whose time stamp counter the guest has calibrated
    await hostProcessor(),
  ];
  return createHash('sha256').update(JSON.stringify(facts)).digest('hex').slice(0, 32);
}

const hashes = new Map<string, Promise<string>>();

/** Read once for each state of the file. */
async function contentHash(path: string): Promise<string> {
  const identity = await fileIdentity(path).catch((cause: unknown) => {
    throw new HrunError('NOT_FOUND', `${path} is missing`, { cause, hint: 'run "make build"' });
  });
  const known = hashes.get(identity);
  if (known !== undefined) return await known;
  const hashing = hashFile(path);
  hashes.set(identity, hashing);
  hashing.catch(() => hashes.delete(identity));
  return await hashing;
}

async function hashFile(path: string): Promise<string> {
  const hash = createHash('sha256');
  await pipeline(createReadStream(path, { highWaterMark: 1024 * 1024 }), hash);
  return hash.digest('hex');
}

async function hostProcessor(): Promise<string> {
  const text = await readFile('/proc/cpuinfo', 'utf8');
  const fields = ['vendor_id', 'cpu family', 'model', 'model name', 'stepping', 'microcode', 'flags'];
  return fields.map((field) => new RegExp(`^${field}\\s*:.*$`, 'm').exec(text)?.[0] ?? field).join('\n');
}
