import { formatIp, parseIp } from '../../network/ipAddress.ts';
import { openCaller } from '../caller.ts';
import { exitCodes } from '../exitCodes.ts';
import { addList, checked } from '../flags.ts';
import type { Verb } from '../verb.ts';

interface ConnectFlags {
  readonly alias: readonly string[];
  readonly ip?: string;
  readonly ip6?: string;
}

export const networkConnect: Verb = {
  configure(command) {
    const address = checked((text: string) => formatIp(parseIp(text, 'the address')));
    addList(command, '--alias <name>', 'Another name of the container in the network');
    command.option('--ip <address>', 'IPv4 address of the container', address);
    command.option('--ip6 <address>', 'IPv6 address of the container', address);
  },

  async run(command, context) {
    const [network = '', container = ''] = command.args;
    const { alias, ip, ip6 } = command.opts<ConnectFlags>();
    const engine = await context.deps.engine();
    using caller = openCaller(context);
    const request = {
      network,
      container,
      aliases: alias.map((name) => name.toLowerCase()),
      ...(ip !== undefined && { ipv4: ip }),
      ...(ip6 !== undefined && { ipv6: ip6 }),
    };
    await engine.networks.connect(request, caller, context.signal);
    return exitCodes.ok;
  },
};

export const networkDisconnect: Verb = {
  configure(command) {
    command.option('-f, --force', 'As without it');
  },

  async run(command, context) {
    const [network = '', container = ''] = command.args;
    const engine = await context.deps.engine();
    await engine.networks.disconnect(network, container, context.signal);
    return exitCodes.ok;
  },
};
