import { defaultDevices } from './defaults.ts';
import type { GuestDevice } from './guestRequest.ts';
import type { LinuxSpec } from './linuxSpec.ts';
import type { ResourcesSpec } from './resourcesSpec.ts';
import { invalidField, unsupportedField } from './specFailure.ts';

type DeviceSpec = LinuxSpec['devices'][number];
type RuleSpec = ResourcesSpec['devices'][number];

/**
 * Character devices whose numbers are fixed in Linux (admin-guide/devices.rst) and that the guest's own kernel serves.
 * Any other number stands for hardware of the host, or for something else than on the host.
 */
const guestCharacterDevices: ReadonlySet<string> = new Set([
  ...['1:3', '1:5', '1:7', '1:8', '1:9', '1:11', '5:0', '5:1', '5:2'],
  ...['10:183', '10:200', '10:223', '10:229', '10:232', '10:235', '10:236', '10:237', '10:238'],
]);

/**
 * The device nodes of a container: the spec's default devices, unless its /dev is the host's, and those of `linux.devices`.
 * A node for hardware of the host is made as asked for, but where its use is allowed it would be something else in the
 * guest: then it is left out of a privileged container, which asks for all that its host has, and otherwise refused.
 * @throws HrunError SPEC_INVALID, SPEC_UNSUPPORTED
 */
export function planDevices(linux: LinuxSpec | undefined, devIsBound: boolean): GuestDevice[] {
  const rules = linux?.resources?.devices ?? [];
  const own = (linux?.devices ?? []).flatMap((device, index) => {
    const planned = planDevice(device, `linux.devices.${index}`);
    if (isServed(device)) return planned;
    const use = useOf(device, rules);
    if (use === 'allowed') {
      throw unsupportedField(
        `linux.devices.${index}`,
        `${device.path} is a device of the host (${device.type} ${device.major}:${device.minor})`,
      );
    }
    return use === 'denied' ? planned : [];
  });
  const usual = devIsBound
    ? []
    : defaultDevices.filter(({ path }) => !own.some((device) => device.path === path));
  return [...usual.map((device) => ({ ...device })), ...own];
}

/** What the rules say of reading or writing a device: the last one that matches decides. */
function useOf(
  { type, major, minor }: DeviceSpec,
  rules: readonly RuleSpec[],
): 'allowed' | 'denied' | 'privileged' {
  const matches = (value: bigint | undefined, number: bigint) =>
    value === undefined || value < 0n || value === number;
  const kind = type === 'u' ? 'c' : type;
  const last = rules.findLast(
    (rule) =>
      ['', 'a', kind].includes(rule.type) &&
      matches(rule.major, major) &&
      matches(rule.minor, minor) &&
      (rule.access === '' || /[rw]/.test(rule.access)),
  );
  if (!last?.allow) return 'denied';
  return last.type === '' || last.type === 'a' ? 'privileged' : 'allowed';
}

function isServed({ type, major, minor }: DeviceSpec): boolean {
  return type === 'p' || (type !== 'b' && guestCharacterDevices.has(`${major}:${minor}`));
}

function planDevice(device: DeviceSpec, field: string): GuestDevice {
  const { path, type, major, minor } = device;
  if (!path.startsWith('/')) throw invalidField(`${field}.path`, `${JSON.stringify(path)} is not absolute`);
  if (!['b', 'c', 'u', 'p'].includes(type)) {
    throw invalidField(`${field}.type`, `${JSON.stringify(type)} is no type of device`);
  }
  // dev_t of Linux: 12 bits and 20 bits.
  if (major < 0n || major >= 4096n || minor < 0n || minor >= 1_048_576n) {
    throw invalidField(field, `no device has the number ${major}:${minor}`);
  }
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
