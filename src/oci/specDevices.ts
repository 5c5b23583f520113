import { defaultDevices } from './defaults.ts';
import type { GuestDevice } from './guestRequest.ts';
import type { LinuxSpec } from './linuxSpec.ts';
import { invalidField, unsupportedField } from './specFailure.ts';

type DeviceSpec = LinuxSpec['devices'][number];

/**
 * Character devices whose numbers are fixed in Linux (admin-guide/devices.rst) and that the guest's own kernel serves.
 * Any other number stands for hardware of the host, or for something else than on the host.
 */
const guestCharacterDevices: ReadonlySet<string> = new Set([
  ...['1:3', '1:5', '1:7', '1:8', '1:9', '1:11', '5:0', '5:1', '5:2'],
  ...['10:183', '10:200', '10:223', '10:229', '10:232', '10:235', '10:236', '10:237', '10:238'],
]);

/**
 * The device nodes of a container: the spec's default devices, unless its /dev is the host's, and those of `linux.devices`
 * that the guest's kernel has. A privileged container asks for all devices of its host; what the guest lacks of them is
 * left out then, and refused by name otherwise.
 * @throws HrunError SPEC_INVALID, SPEC_UNSUPPORTED
 */
export function planDevices(linux: LinuxSpec | undefined, devIsBound: boolean): GuestDevice[] {
  const wantsAll = (linux?.resources?.devices ?? []).some(
    ({ allow, type, major, minor }) =>
      allow && (type === '' || type === 'a') && (major ?? -1n) < 0n && (minor ?? -1n) < 0n,
  );
  const own = (linux?.devices ?? []).flatMap((device, index) => {
    const planned = planDevice(device, `linux.devices.${index}`);
    if (planned === undefined && !wantsAll) {
      throw unsupportedField(
        `linux.devices.${index}`,
        `${device.path} is a device of the host (${device.type} ${device.major}:${device.minor})`,
      );
    }
    return planned ?? [];
  });
  const usual = devIsBound
    ? []
    : defaultDevices.filter(({ path }) => !own.some((device) => device.path === path));
  return [...usual.map((device) => ({ ...device })), ...own];
}

function planDevice(device: DeviceSpec, field: string): GuestDevice | undefined {
  const { path, type, major, minor } = device;
  if (!path.startsWith('/')) throw invalidField(`${field}.path`, `${JSON.stringify(path)} is not absolute`);
  if (!['b', 'c', 'u', 'p'].includes(type)) {
    throw invalidField(`${field}.type`, `${JSON.stringify(type)} is no type of device`);
  }
  const isServed = type === 'p' || (type !== 'b' && guestCharacterDevices.has(`${major}:${minor}`));
  if (!isServed) return undefined;
  return {
    path,
    type: type === 'u' ? 'c' : type,
    major: Number(major),
    minor: Number(minor),
    mode: device.fileMode ?? 0o666,
    uid: device.uid ?? 0,
    gid: device.gid ?? 0,
  };
}
