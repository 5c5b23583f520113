import type { LinuxSpec } from './linuxSpec.ts';
import { invalidField, unsupportedField } from './specFailure.ts';

/** Where the container's interfaces come from. */
export type HostNetwork =
  | { readonly kind: 'new' }
  | { readonly kind: 'path'; readonly path: string }
  /** No network namespace is asked for: the host's own. */
  | { readonly kind: 'host' };

export interface NamespacePlan {
  readonly network: HostNetwork;
  /** Namespaces other than the network that are to be those of another container; the host says whose they are. */
  readonly joined: readonly { readonly type: string; readonly path: string }[];
  /** Types that are new in the guest. */
  readonly fresh: readonly string[];
}

const types = ['pid', 'network', 'mount', 'ipc', 'uts', 'user', 'cgroup', 'time'];

/**
 * Who makes which namespace. The network namespace is the host's business: inside the guest every container uses the one
 * that has the interfaces. A cgroup namespace is always made: without it a container would see the guest's tree.
 * @throws HrunError SPEC_INVALID, SPEC_UNSUPPORTED
 */
export function planNamespaces(linux: LinuxSpec | undefined): NamespacePlan {
  const asked = linux?.namespaces ?? [];
  asked.forEach(({ type }, index) => {
    const field = `linux.namespaces.${index}.type`;
    if (!types.includes(type)) throw invalidField(field, `namespace ${JSON.stringify(type)} does not exist`);
    if (asked.findIndex((other) => other.type === type) !== index) {
      throw invalidField(field, `malformed spec file: duplicated ns ${JSON.stringify(type)}`);
    }
  });
  const find = (type: string) => asked.find((namespace) => namespace.type === type);
  for (const type of ['pid', 'mount', 'ipc']) {
    if (find(type) === undefined) {
      throw unsupportedField(
        'linux.namespaces',
        `without a ${type} namespace the container would share the host's, which a microVM cannot`,
        `ask for a ${type} namespace, or use runc for this container`,
      );
    }
  }
  const network = find('network');
  const others = asked.filter(({ type }) => type !== 'network');
  const joined = others.filter(({ path }) => path !== '');
  const fresh = others.filter(({ path }) => path === '').map(({ type }) => type);
  if (find('cgroup') === undefined) fresh.push('cgroup');
  if (joined.some(({ type }) => type === 'mount')) {
    throw unsupportedField('linux.namespaces', "another container's mount namespace cannot be joined");
  }
  return { network: networkOf(network), joined, fresh };
}

function networkOf(namespace: { readonly path: string } | undefined): HostNetwork {
  if (namespace === undefined) return { kind: 'host' };
  return namespace.path === '' ? { kind: 'new' } : { kind: 'path', path: namespace.path };
}
