export function cacheFolder(env?: NodeJS.ProcessEnv): string;
export function libTorchFolder(env?: NodeJS.ProcessEnv): string;
