// Amazon's validator over messages of ours: {"certificate": PEM, "messages": [...]} on stdin, one verdict each on stdout.
// The validator itself is untouched; only what it would download from Amazon is handed to it.
"use strict";

const https = require("https");
const { Readable } = require("stream");
const MessageValidator = require("sns-validator");

const asked = JSON.parse(require("fs").readFileSync(0, "utf8"));

https.get = (_url, answer) => {
  const response = Readable.from([Buffer.from(asked.certificate)]);
  response.statusCode = 200;
  answer(response);
  return { on: () => {} };
};

const verdicts = asked.messages.map(
  (message) =>
    new Promise((resolve) => {
      new MessageValidator().validate(message, (error) => resolve(error ? error.message : "valid"));
    }),
);
Promise.all(verdicts).then((all) => console.log(JSON.stringify(all)));
