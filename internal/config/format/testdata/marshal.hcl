backend = {
  "host"   = "10.0.0.1"
  "port"   = 9007199254740993
  "weight" = 1.0
}
empty = {
  "list"    = []
  "map"     = {}
  "nothing" = null
  "text"    = ""
}
enabled = true
mode    = "0777"
notes   = "first\nsecond\n"
ratio   = 1.0e+21
rules = [{
  "path" = "/a"
  "to"   = ["x", "y"]
}, [1]]
tags = ["no", "blue green"]
_ = {
  "a b" = -1
}
