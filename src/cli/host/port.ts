import { HrunError } from '../../base/errors.ts';
import type { PublishedPort } from '../../network/endpoint.ts';
import type { Context } from '../deps.ts';
import { exitCodes } from '../exitCodes.ts';
import { parsePublish } from '../parse/ports.ts';
import { hostsOf } from '../render/ports.ts';
import type { Verb } from '../verb.ts';

/** `hrun port CONTAINER [PORT[/PROTOCOL]]`, in the form of `docker port`; `add` and `rm` change what is published. */
export const port: Verb = {
  configure() {},

  async run(command, context) {
    const [container = '', wanted] = command.args;
    if (container === 'add' || container === 'rm')
      return await changePorts(container, command.args.slice(1), context);
    if (command.args.length > 2) throw usage();
    const engine = await context.deps.engine();
    const { record } = await engine.containers.inspect(container, context.signal);
    const ports = (record.state.endpoints ?? []).flatMap((endpoint) => endpoint.ports);
    await context.print(renderPorts(ports, wanted, container));
    return exitCodes.ok;
  },
};

async function changePorts(
  what: 'add' | 'rm',
  [container, ...ports]: readonly string[],
  context: Context,
): Promise<number> {
  if (container === undefined || ports.length === 0) throw usage();
  const { networks } = await context.deps.engine();
  if (what === 'add') {
    const added = await networks.publish(container, ports.flatMap(parsePublish), context.signal);
    await context.print(renderPorts(added, undefined, container));
  } else {
    for (const of of ports) await networks.unpublish(container, of, context.signal);
  }
  return exitCodes.ok;
}

function usage(): HrunError {
  return new HrunError('INVALID_ARGUMENT', 'wrong number of arguments', { hint: "see 'hrun port --help'" });
}

/** @throws HrunError NOT_FOUND for a port that is not published, in Docker's words */
export function renderPorts(
  ports: readonly PublishedPort[],
  wanted: string | undefined,
  container: string,
): string {
  const chosen = wanted === undefined ? ports : ports.filter((of) => keyOf(of) === withProtocol(wanted));
  if (wanted !== undefined && chosen.length === 0) {
    throw new HrunError('NOT_FOUND', `no public port '${wanted}' published for ${container}`);
  }
  return chosen
    .flatMap((of) =>
      hostsOf(of).map((host) => (wanted === undefined ? `${keyOf(of)} -> ${host}\n` : `${host}\n`)),
    )
    .join('');
}

function keyOf({ guestPort, protocol }: PublishedPort): string {
  return `${guestPort}/${protocol}`;
}

function withProtocol(text: string): string {
  return text.includes('/') ? text.toLowerCase() : `${text}/tcp`;
}
