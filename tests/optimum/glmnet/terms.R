# Writes what test_row_terms.py compares with: rows of glmnet's example data with a weight and an offset each, and paths
# on them with a penalty factor for each column, a line for each λ with alpha, lambda, the intercept and the weights, in
# the columns' own units. Rscript terms.R FOLDER
if (!requireNamespace("glmnet", quietly = TRUE)) quit(status = 3)
folder <- commandArgs(trailingOnly = TRUE)[1]
data(QuickStartExample, package = "glmnet")
data(BinomialExample, package = "glmnet")
data(PoissonExample, package = "glmnet")

write_numbers <- function(numbers, name) {
  file <- gzfile(file.path(folder, paste0(name, ".csv.gz")), "w")
  for (i in seq_len(nrow(numbers))) cat(sprintf("%.17g", numbers[i, ]), sep = c(rep(",", ncol(numbers) - 1), "\n"), file = file)
  close(file)
}

for (family in c("gaussian", "binomial", "poisson")) {
  example <- list(gaussian = QuickStartExample, binomial = BinomialExample, poisson = PoissonExample)[[family]]
  rows <- 1:100
  x <- example$x[rows, 1:12]
  y <- as.numeric(example$y)[rows]
  weight <- 1 + rows %% 4
  offset <- sin(rows) / 2
  factor <- c(0, 2, 1, 1, 0.5, 1, 3, 1, 1, 0, 1, 1)
  lines <- lapply(c(1, 0.5), function(alpha) {
    fit <- glmnet::glmnet(x, y, family, weights = weight, offset = offset, penalty.factor = factor, alpha = alpha,
                          thresh = 1e-14, maxit = 1e7, nlambda = 20)
    cbind(alpha, fit$lambda, t(as.matrix(coef(fit))))
  })
  write_numbers(cbind(x, y, weight, offset), paste0(family, "_rows"))
  write_numbers(do.call(rbind, lines), paste0(family, "_terms"))
}
write_numbers(matrix(factor, nrow = 1), "factor")
