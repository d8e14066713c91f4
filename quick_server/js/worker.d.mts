/// <reference path="./worker.d.ts" />
// Types of worker.mjs.

export import Worker = quick_server.Worker;
export import WorkerError = quick_server.WorkerError;
export import Progress = quick_server.Progress;
export import RunOptions = quick_server.RunOptions;
export import StatusFunction = quick_server.StatusFunction;
export import QuickProgressElement = quick_server.QuickProgressElement;
