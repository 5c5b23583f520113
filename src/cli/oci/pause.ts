import type { OciVerb } from './ociVerb.ts';

export const pause: OciVerb = {
  name: 'pause',
  summary: 'pause suspends all processes inside the container',
  usage: '<container-id>',
  args: [1, 1],
  flags: [],
  async run({ oci, signal, name }) {
    await oci.pause(name(), signal);
    return 0;
  },
};

export const resume: OciVerb = {
  name: 'resume',
  summary: 'resumes all processes that have been previously paused',
  usage: '<container-id>',
  args: [1, 1],
  flags: [],
  async run({ oci, signal, name }) {
    await oci.resume(name(), signal);
    return 0;
  },
};
