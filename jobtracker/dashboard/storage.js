// Files, their chunks and copies, and who stores how much.

import { element } from "./elements.js";
import { badge, bar, facts, head, panel, table, trackerLink } from "./parts.js";
import * as words from "./words.js";

export function storagePage(path) {
  return {
    title: path === "/" ? "Storage" : path,
    nav: "storage",
    concerned: () => true,
    async load(replicas) {
      const [files, storage] = await Promise.all([
        replicas.corroborated(`files?path=${encodeURIComponent(path)}`, (body) => body),
        replicas.corroborated("storage", ({ files: all, bytes, trackers, few_copies: few, lost }) => [all, bytes, trackers, few, lost]).catch((error) => ({ why: error.message })),
      ]);
      return { files, storage };
    },
    draw: ({ files, storage }) => [
      head(path === "/" ? "Storage" : path, trail(path), files),
      storage.body && path === "/" && storagePanel(storage.body),
      files.body.file ? filePanel(files.body.file) : folderPanel(files.body.entries),
    ],
  };
}

export const folderAddress = (path) => `#/storage${path.split("/").map(encodeURIComponent).join("/")}`;

function trail(path) {
  if (path === "/") return [];
  const parts = path.split("/").filter(Boolean);
  return [["Storage", "#/storage"], ...parts.slice(0, -1).map((part, at) => [part, folderAddress(`/${parts.slice(0, at + 1).join("/")}`)])];
}

function storagePanel(storage) {
  const most = Math.max(1, ...storage.trackers.map(({ bytes }) => bytes));
  const rows = storage.trackers.map(({ tracker, live, chunks, bytes }) => ({
    key: `t${tracker}`,
    cells: [trackerLink(tracker), live ? badge("live", "agreed") : badge("away", "redone"), words.count(chunks), words.bytes(bytes), bar([[bytes / most, "plain"]], words.bytes(bytes))],
  }));
  const health = (number, what) => (number > 0 ? badge(words.count(number), "outvoted", what) : "0");
  return panel("Copies", null,
    facts([
      ["files", words.count(storage.files), words.bytes(storage.bytes)],
      ["chunks with one live copy", health(storage.few_copies, "one more loss and they are gone")],
      ["chunks without a live copy", health(storage.lost, "their trackers are away")],
      ["repairs", "none", "lost copies are not made anew"],
    ]),
    element("h3", null, "Who stores how much"),
    table([["tracker", "title"], ["presence"], ["chunks", "number"], ["bytes", "number"], [""]], rows, "No tracker stores anything."));
}

function folderPanel(entries) {
  const rows = entries.map(({ path, folder, length, files, copies }) => ({
    key: path,
    cells: [
      element("a", { href: folderAddress(path) }, `${path.split("/").pop()}${folder ? "/" : ""}`),
      folder ? words.counted(files, "file") : "file",
      words.bytes(length),
      copies === 1 && length > 0 ? badge("1", "redone", "one more loss and it is gone") : words.count(copies),
    ],
  }));
  return panel("Files", null, table([["name", "title"], ["what"], ["length", "number"], ["fewest copies", "number"]], rows, "There is nothing here yet."));
}

function filePanel({ length, chunks, copies, first }) {
  const rows = first.map(({ chunk, length: its, servers }, at) => ({
    key: `${at}`,
    cells: [element("span", { class: "mono small" }, words.short(chunk)), words.bytes(its), servers.map((server, index) => [index > 0 ? ", " : "", trackerLink(server)])],
  }));
  return panel("Chunks", element("span", { class: "small soft" }, "a chunk is named by the digest of its bytes"),
    facts([["length", words.bytes(length), words.counted(length, "byte")], ["chunks", words.count(chunks)], ["fewest copies", words.count(copies)]]),
    element("h3", null, chunks > first.length ? `The first ${words.count(first.length)} chunks` : "All chunks"),
    table([["chunk", "title"], ["length", "number"], ["copies on"]], rows, "The file is empty."));
}
