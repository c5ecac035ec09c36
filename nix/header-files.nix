# `s3.extraHeadersFile` is one file of lines, or a file for each header: gives both, one of them empty.
cfg:
let
  given = cfg.s3.extraHeadersFile;
  isSet = builtins.isAttrs given && !(given ? outPath);
in
{
  lines = if isSet then null else given;
  values = if isSet then given else { };
}
