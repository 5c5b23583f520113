import { type Command, Option } from 'commander';
import { HrunError } from '../../base/errors.ts';
import { formatIp, parseIp, parsePrefix } from '../../network/ipAddress.ts';
import { openCaller } from '../caller.ts';
import { exitCodes } from '../exitCodes.ts';
import { addList, checked, integerOption } from '../flags.ts';
import { parseLabel } from '../parse/environment.ts';
import { parseContainerName } from '../parse/limits.ts';
import type { Verb } from '../verb.ts';

interface NetworkCreateFlags {
  readonly gateway: readonly string[];
  readonly internal?: true;
  readonly ipv6?: true;
  readonly label: readonly string[];
  readonly mtu: number;
  readonly subnet: readonly string[];
}

const defaultMtu = 1500;

export const networkCreate: Verb = {
  configure(command: Command) {
    command.addOption(
      new Option('-d, --driver <driver>', 'Kind of network').choices(['bridge']).default('bridge'),
    );
    addList(command, '--gateway <address>', 'Address of the gateway in its range');
    command.option('--internal', 'Lead nowhere else');
    command.option('--ipv6', 'Have a range of IPv6 too');
    addList(command, '--label <label>', 'Set a label: KEY=value');
    command.option('--mtu <bytes>', 'Largest packet', integerOption(576, 65_535), defaultMtu);
    addList(command, '--subnet <range>', 'Range of addresses, also one of IPv6');
  },

  async run(command, context) {
    const flags = command.opts<NetworkCreateFlags>();
    const name = networkName(command.args[0] ?? '');
    const engine = await context.deps.engine();
    using caller = openCaller(context);
    const network = await engine.networks.create(
      {
        name,
        subnets: flags.subnet.map((text) => parsePrefix(text, 'the range')),
        gateways: flags.gateway.map((text) => formatIp(parseIp(text, 'the gateway'))),
        ipv6: flags.ipv6 === true,
        internal: flags.internal === true,
        mtu: flags.mtu,
        labels: Object.fromEntries(flags.label.map(parseLabel)),
      },
      caller,
    );
    await context.print(`${network.id}\n`);
    return exitCodes.ok;
  },
};

/** @throws HrunError INVALID_ARGUMENT */
function networkName(text: string): string {
  try {
    return checked(parseContainerName)(text);
  } catch (cause) {
    throw new HrunError('INVALID_ARGUMENT', `invalid network name: "${text}"`, { cause });
  }
}
