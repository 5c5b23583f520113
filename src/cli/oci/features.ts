import { featuresJson } from '../../oci/features.ts';
import type { OciVerb } from './ociVerb.ts';

export const features: OciVerb = {
  name: 'features',
  summary: 'show the enabled features',
  usage: '',
  args: [0, 0],
  flags: [],
  async run({ context }) {
    await context.print(`${featuresJson(['org.hrun.kernel'])}\n`);
    return 0;
  },
};
