import type { ImageDetails } from '../../runtime/views.ts';

/** An image as `docker image inspect` shows it. */
export function inspectImage(image: ImageDetails): object {
  const { config } = image;
  return {
    Id: image.id,
    RepoTags: image.names,
    RepoDigests: image.digests,
    Parent: '',
    Comment: image.comment,
    Created: image.createdAt,
    Author: image.author,
    Architecture: image.architecture,
    ...(image.variant !== undefined && { Variant: image.variant }),
    Os: image.os,
    Size: image.sizeBytes,
    RootFS: { Type: 'layers', Layers: image.diffIds },
    Config: {
      User: config.user,
      ExposedPorts: new Map(config.exposedPorts.map((port) => [port, {}])),
      Env: config.env,
      Cmd: config.cmd.length === 0 ? null : config.cmd,
      Volumes: new Map(config.volumes.map((volume) => [volume, {}])),
      WorkingDir: config.workingDir,
      Entrypoint: config.entrypoint.length === 0 ? null : config.entrypoint,
      Labels: new Map(Object.entries(config.labels)),
      ...(config.stopSignal !== undefined && { StopSignal: config.stopSignal }),
    },
  };
}
