import { type ChildProcess, spawn } from 'node:child_process';
import { randomInt } from 'node:crypto';
import { once } from 'node:events';
import { isIPv4 } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { errnoOf, HrunError, messageOf } from '../base/errors.ts';
import { printable } from '../base/text.ts';
import type { NetNamespace } from '../sys/netNamespace.ts';
import { descriptorPair } from '../sys/socketPair.ts';
import type { PortWish } from './containerNetwork.ts';
import type { Endpoint, PublishedPort } from './endpoint.ts';
import type { GuestInterface } from './guestInterface.ts';
import { macOf } from './macAddress.ts';
import { reservePort } from './portReservations.ts';
import { openRouteSocket } from './rtnetlink/routeSocket.ts';
import { listRoutes } from './rtnetlink/routes.ts';

/** `--network user`: no rights are needed, and no other guest is reached. */
export const userNetworkName = 'user';

/** Every guest has the same: its addresses are seen by nobody but its own passt. */
const guest4 = { address: '10.0.2.15', bits: 24, gateway: '10.0.2.2', nameServer: '10.0.2.3' } as const;
const guest6 = { address: 'fd00:2::15', bits: 64, gateway: 'fd00:2::2', nameServer: 'fd00:2::3' } as const;
/** The largest that passt takes: all of the guest's packets are copied, so the fewer the better. */
const mtu = 65_520;
const readyLimitMs = 10_000;
const endLimitMs = 5000;

export interface UserNetworkDeps {
  /** The native binary of hrun, which becomes the gate (src/front). */
  readonly gatePath: string;
  /** Path of passt. */
  readonly passtPath: string;
  /** Users that nobody else has, for a daemon that is root. */
  readonly uids: { readonly first: number; readonly count: number };
}

export interface UserNetworkRequest {
  /** Of the container. */
  readonly id: string;
  readonly names: readonly string[];
  readonly ports: readonly PortWish[];
  readonly egress?: Endpoint['egress'];
  /** Most bytes per second in each direction. */
  readonly rateBytes?: number;
  /** Name servers that the guest asks instead. */
  readonly dns: readonly string[];
  /** Name servers, as the caller's namespace has them. */
  readonly upstream: readonly string[];
}

/** A guest's way to the host's network. Disposing closes it, once the VMM has let go of its end. */
export interface UserNetwork extends AsyncDisposable {
  readonly endpoint: Endpoint;
  readonly guest: GuestInterface;
  /** Addresses that the guest asks for names; they stand for `upstream`. */
  readonly nameServers: readonly string[];
  /** For `MicroVm.plugNic`; to be closed once plugged. */
  readonly cable: Disposable & { readonly fd: number };
}

/**
 * Starts passt and its gate in the caller's namespace. They end when the VMM lets go of its end, whatever else died.
 * @param netns of the caller; stays the caller's
 * @throws HrunError PORT_IN_USE, INVALID_ARGUMENT for what passt cannot do, NETWORK_FAILED with its own words
 */
export async function openUserNetwork(
  netns: NetNamespace,
  request: UserNetworkRequest,
  deps: UserNetworkDeps,
  signal: AbortSignal,
): Promise<UserNetwork> {
  const families = routedFamilies(netns);
  const ports = choosePorts(netns, request.ports);
  const endpoint: Endpoint = {
    network: userNetworkName,
    networkId: userNetworkName,
    netns: netns.identity,
    tap: '',
    container: request.id,
    slot: 0,
    mac: macOf(request.id),
    ...(families.has(4) && { ipv4: guest4.address }),
    ...(families.has(6) && { ipv6: guest6.address }),
    names: [...request.names],
    ports,
    ...(request.egress && { egress: request.egress }),
    ...(request.rateBytes !== undefined && { rateBytes: request.rateBytes }),
    upstream: [...request.upstream],
  };
  const servers = nameServersFor(families, request.upstream);
  const uid = process.geteuid?.() === 0 ? deps.uids.first + randomInt(deps.uids.count) : undefined;
  const plan = {
    program: deps.passtPath,
    arguments: passtArguments(families, ports, servers, uid),
    uid: uid ?? null,
    allow: request.egress?.allow ?? null,
    servers: request.dns.length > 0 ? request.dns : servers.map(({ asked }) => asked),
    rate: request.rateBytes ?? null,
  };
  await using undo = new AsyncDisposableStack();
  const [cable, other] = descriptorPair();
  undo.use(cable);
  const gate = startGate(netns, plan, other, deps.gatePath);
  undo.defer(() => ended(gate));
  undo.use(cable);
  await ready(gate, signal);
  const owned = undo.move();
  return {
    endpoint,
    guest: guestInterface(endpoint),
    nameServers: servers.map(({ asked }) => asked),
    cable,
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

/** Families that the namespace has a default route of: what passt has a way for. */
function routedFamilies(netns: NetNamespace): ReadonlySet<4 | 6> {
  using socket = openRouteSocket(netns);
  const routes = listRoutes(socket).filter(({ destination }) => destination.length === 0);
  if (routes.length === 0) {
    throw new HrunError('NETWORK_FAILED', `network ${userNetworkName}: there is no default route here`, {
      hint: 'connect the host, or use --network none',
    });
  }
  return new Set(routes.map(({ destination }) => destination.base.family));
}

/** Those that are free now; passt takes them itself. */
function choosePorts(netns: NetNamespace, wishes: readonly PortWish[]): PublishedPort[] {
  using held = new DisposableStack();
  return wishes.map((wish) => {
    if (wish.protocol !== 'sctp') return held.use(reservePort(netns, wish)).port;
    throw new HrunError(
      'INVALID_ARGUMENT',
      `port ${wish.guestPort}/sctp cannot be published by network ${userNetworkName}`,
      {
        hint: 'the network bridge can, as root',
      },
    );
  });
}

interface NameServer {
  /** What the guest asks. */
  readonly asked: string;
  /** What that stands for. */
  readonly meant: string;
}

function nameServersFor(families: ReadonlySet<4 | 6>, upstream: readonly string[]): NameServer[] {
  const first = (family: 4 | 6) => upstream.find((server) => isIPv4(server) === (family === 4));
  return ([4, 6] as const).flatMap((family) => {
    const meant = families.has(family) ? first(family) : undefined;
    const { nameServer } = family === 4 ? guest4 : guest6;
    return meant === undefined ? [] : [{ asked: nameServer, meant }];
  });
}

/** See passt(1). @param servers at most one of each family */
export function passtArguments(
  families: ReadonlySet<4 | 6>,
  ports: readonly PublishedPort[],
  servers: readonly NameServer[],
  uid: number | undefined,
): string[] {
  const only = families.size === 2 ? [] : [families.has(4) ? '--ipv4-only' : '--ipv6-only'];
  return [
    ...['--stderr', '--quiet', '--mtu', String(mtu)],
    // the agent tells the guest its addresses, and the gateway is not the host's loopback
    ...['--no-dhcp', '--no-dhcpv6', '--no-ra', '--no-map-gw'],
    ...only,
    ...(families.has(4)
      ? ['--address', guest4.address, '--netmask', String(guest4.bits), '--gateway', guest4.gateway]
      : []),
    ...(families.has(6) ? ['--address', guest6.address, '--gateway', guest6.gateway] : []),
    ...servers.flatMap(({ asked, meant }) => ['--dns', meant, '--dns-forward', asked]),
    ...ports.flatMap(({ hostIp, hostPort, guestPort, protocol }) => [
      protocol === 'udp' ? '--udp-ports' : '--tcp-ports',
      `${hostIp === '' ? '' : `${hostIp}/`}${hostPort}:${guestPort}`,
    ]),
    ...(uid === undefined ? [] : ['--runas', `${uid}:${uid}`]),
  ];
}

function guestInterface({ mac, ipv4, ipv6 }: Endpoint): GuestInterface {
  const having4 = ipv4 === undefined ? [] : [guest4];
  const having6 = ipv6 === undefined ? [] : [guest6];
  return {
    name: 'eth0',
    mac,
    mtu,
    addresses: [...having4, ...having6].map(({ address, bits }) => `${address}/${bits}`),
    routes: [
      ...having4.map(({ gateway }) => ({ destination: '0.0.0.0/0', gateway })),
      ...having6.map(({ gateway }) => ({ destination: '::/0', gateway })),
    ],
    neighbours: [],
  };
}

function startGate(
  netns: NetNamespace,
  plan: object,
  end: Disposable & { readonly fd: number },
  gatePath: string,
): ChildProcess {
  using _handedOver = end;
  return netns.run(() =>
    spawn(gatePath, [JSON.stringify(plan)], {
      argv0: 'hrun-gate',
      cwd: '/',
      detached: true,
      env: {},
      stdio: ['ignore', 'pipe', 'pipe', end.fd],
    }),
  );
}

/** Once it passes frames on. @throws HrunError with what it said instead */
async function ready(gate: ChildProcess, signal: AbortSignal): Promise<void> {
  const { stdout, stderr } = gate;
  if (stdout === null || stderr === null) throw new Error('the gate was started without pipes');
  let said = '';
  stderr.setEncoding('utf8').on('data', (text: string) => {
    if (said.length < 8192) said += text;
  });
  const limit = AbortSignal.any([signal, AbortSignal.timeout(readyLimitMs)]);
  try {
    const first = once(stdout, 'data', { signal: limit }).then(() => true);
    const closed = once(gate, 'close', { signal: limit }).then(() => false);
    if (await Promise.race([first, closed])) return;
  } catch (cause) {
    signal.throwIfAborted();
    const why = errnoOf(cause) === undefined ? 'was not ready in time' : messageOf(cause);
    throw new HrunError('NETWORK_FAILED', `passt ${why}`, { cause });
  }
  throw new HrunError('NETWORK_FAILED', `passt: ${reasonIn(said)}`, {
    hint: 'use --network none, or as root the network bridge',
  });
}

/** The last line of passt that is not about its own log. */
function reasonIn(said: string): string {
  const lines = said.split('\n').map((line) => line.trim());
  const reason = lines.findLast((line) => line !== '' && !/^Failed to send \d+ bytes to syslog$/.test(line));
  return printable(reason ?? 'it ended without a word', 500);
}

/** It ends by itself when QEMU lets go of its end; one that does not is killed. */
async function ended(gate: ChildProcess): Promise<void> {
  if (gate.exitCode !== null || gate.signalCode !== null || gate.pid === undefined) return;
  const gone = once(gate, 'exit');
  const late = new AbortController();
  await Promise.race([gone, sleep(endLimitMs, undefined, { signal: late.signal }).catch(() => {})]);
  late.abort();
  if (gate.exitCode === null && gate.signalCode === null) {
    gate.kill('SIGKILL');
    await gone;
  }
}
